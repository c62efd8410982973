"""The daemon's end of the socket to a worker. Invariant: bytes that no message needs are never dropped unseen."""

import asyncio
import contextlib
import socket
from collections.abc import Iterable

import msgspec

from watcher.files import is_too_deep
from watcher.hook import wire

_READ_BYTES = 65_536


class Channel:
    """Sends bytes to a worker, and splits what arrives into messages. Owns the socket."""

    def __init__(self, sock: socket.socket, limit_bytes: int) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._arrived = wire.Splitter(limit_bytes)
        self._body: bytes | None = None
        self._sending: asyncio.Task[None] | None = None

    def send(self, requests: Iterable[wire.Fields]) -> None:
        """Send messages, what the socket does not take at once while replies are read. Reading meets every error."""
        data = b"".join(map(_packed, requests))
        try:
            count = self._socket.send(data)
        except BlockingIOError:
            count = 0
        except OSError:
            return
        if count < len(data):
            self._sending = asyncio.create_task(self._send_rest(data[count:]), name="requests of a hook worker")

    async def _send_rest(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            await self._loop.sock_sendall(self._socket, data)

    async def stop_sending(self) -> None:
        """Drop what is not sent yet."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
            self._sending = None

    async def arrives_by(self, time_s: float) -> bool:
        """Wait for a message until a time of the event loop. Return False if none has arrived by then.

        Raises:
            OSError: the worker has closed the channel.
            BrokenMessage: the bytes are no message.
        """
        while not self._poll():
            if self._loop.time() >= time_s:
                return self._poll()  # What came before that time counts.
            await self._readable_by(time_s)
        return True

    async def _readable_by(self, time_s: float) -> None:
        """Wait until there is something to read, or until a time. Reads nothing, so a cancelled wait loses nothing."""
        waiter = self._loop.create_future()
        timer = self._loop.call_at(time_s, _wake, waiter)
        self._loop.add_reader(self._socket, _wake, waiter)
        try:
            await waiter
        finally:
            self._loop.remove_reader(self._socket)
            timer.cancel()

    @property
    def has_message(self) -> bool:
        """Return True if a whole message has been read. Raises BrokenMessage if what was read cannot become one."""
        if self._body is None:
            self._body = self._arrived.next_body()
        return self._body is not None

    def take(self) -> wire.Fields:
        """Return the message that `has_message` has seen. Raises BrokenMessage if it is no object."""
        body, self._body = self._body, None
        assert body is not None, "only a message that is there can be taken"
        # msgspec follows brackets on the C stack, as deep as the interpreter's limit lets it, which libraries raise.
        if not is_too_deep(body):
            with contextlib.suppress(msgspec.MsgspecError, ValueError):
                fields = msgspec.json.decode(body)
                if isinstance(fields, dict):
                    return fields
        return wire.unpack(body)  # It takes surrogates, as the worker may write them, and names what is wrong.

    @property
    def is_quiet(self) -> bool:
        """Return True if nothing has arrived that is not taken yet, as it must be between two groups."""
        if self._body is not None or self._arrived:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def end_requests(self) -> None:
        """Show the worker the end of its requests; its replies still arrive. Raises OSError."""
        self._socket.shutdown(socket.SHUT_WR)

    def shut_down(self) -> None:
        """End both directions, even if another process holds the worker's end. Raises OSError."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def _poll(self) -> bool:
        """Read what has arrived, without waiting. Return True if it holds a message."""
        with contextlib.suppress(BlockingIOError):
            while not self.has_message:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    raise ConnectionResetError("the channel is closed")
                self._arrived.add(data)
        return self.has_message


def _packed(request: wire.Fields) -> bytes:
    try:
        return wire.framed(msgspec.json.encode(request))
    except OverflowError:  # a number of more than 64 bits
        return wire.pack(request)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
