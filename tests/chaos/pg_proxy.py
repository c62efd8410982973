"""A proxy in front of PostgreSQL that cuts a connection at its next COMMIT, on order.

It reads enough of the protocol to know a COMMIT, whether it comes as a query or in a pipeline
(https://www.postgresql.org/docs/current/protocol-message-formats.html). TLS is refused, so that it can.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path

_ENCRYPTION = (80877103, 80877104)  # SSLRequest, GSSENCRequest
_QUERY, _PARSE, _KEY_DATA = ord("Q"), ord("P"), ord("K")
# The reply to a COMMIT has come within so long, or the server is away.
_REPLY_S = 5.0

Connect = Callable[[Callable[[], asyncio.Protocol]], Awaitable[tuple[asyncio.BaseTransport, asyncio.BaseProtocol]]]


class Cut(StrEnum):
    """What becomes of a COMMIT. The client sees a lost connection each time, and cannot know."""

    BEFORE = "connection cut before its COMMIT arrived"
    AFTER = "connection cut after its COMMIT was done"
    TERMINATED = "backend terminated at its COMMIT"


class PgProxy:
    """Listens on a socket in `folder`, under the name that libpq expects.

    Args:
        connect: opens a connection to the server, for the protocol that the factory makes.
        terminate: ends the backend with this process id.
    """

    def __init__(self, folder: Path, connect: Connect, terminate: Callable[[int], Awaitable[None]]) -> None:
        self.folder, self.connect, self.terminate = folder, connect, terminate
        self.done: Counter[str] = Counter()
        self._armed: dict[int, Cut] = {}  # by the number of the COMMIT that they strike
        self._commits = 0
        self._server: asyncio.Server | None = None
        self.open: set[_Client] = set()
        self.jobs: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Client(self), str(self.folder / ".s.PGSQL.5432"))

    async def stop(self) -> None:
        """New connections are refused, and those that are open break."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for client in list(self.open):
            client.abort()
        for job in self.jobs:
            job.cancel()
        await asyncio.gather(*self.jobs, return_exceptions=True)

    def arm(self, cut: Cut, after: int = 0) -> None:
        """The next COMMIT of anybody, or the one `after` so many others, is dealt with so."""
        self._armed[self._commits + 1 + after] = cut

    def count_commit(self) -> Cut | None:
        """What becomes of this COMMIT; None: it passes."""
        self._commits += 1
        return self._armed.pop(self._commits, None)

    def run(self, job: Awaitable[None]) -> None:
        running = asyncio.ensure_future(job)
        self.jobs.add(running)
        running.add_done_callback(self.jobs.discard)


class _Client(asyncio.Protocol):
    """One connection, from the client's side."""

    def __init__(self, proxy: PgProxy) -> None:
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None
        self._upstream: asyncio.Transport | None = None
        self._buffer = bytearray()  # not sent on yet
        self._started = False  # the startup message, which has no type, has passed
        self.backend_pid = 0
        self.cutting = False  # the reply to a COMMIT is waited for, and kept back

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._proxy.open.add(self)
        self._proxy.run(self._connect())

    async def _connect(self) -> None:
        try:
            upstream, _ = await self._proxy.connect(lambda: _Upstream(self))
        except OSError:
            self.abort()
            return
        assert isinstance(upstream, asyncio.Transport)
        if self._transport is None:
            upstream.abort()
            return
        self._upstream = upstream
        self._forward()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._upstream is not None:
            self._forward()

    def _forward(self) -> None:
        """Sends on whole messages, up to a COMMIT that is to be cut."""
        buffer, at = self._buffer, 0
        while (end := self._end_of_message(at)) is not None:
            if self._started and self._is_commit(at, end) and (cut := self._proxy.count_commit()) is not None:
                self._strike(cut, at)
                return
            if not self._started and int.from_bytes(buffer[at + 4 : at + 8], "big") in _ENCRYPTION:
                assert self._transport is not None
                self._transport.write(b"N")
                del buffer[at:end]
                continue
            self._started = True
            at = end
        self._send(at)

    def _end_of_message(self, at: int) -> int | None:
        head = at + self._started
        if len(self._buffer) < head + 4:
            return None
        end = head + int.from_bytes(self._buffer[head : head + 4], "big")
        return end if end <= len(self._buffer) else None

    def _is_commit(self, at: int, end: int) -> bool:
        return self._buffer[at] in (_QUERY, _PARSE) and self._buffer.find(b"COMMIT", at, min(end, at + 64)) >= 0

    def _send(self, count: int) -> None:
        if count and self._upstream is not None:
            self._upstream.write(bytes(self._buffer[:count]))
            del self._buffer[:count]

    def _strike(self, cut: Cut, at: int) -> None:
        self._proxy.done[str(cut)] += 1
        match cut:
            case Cut.BEFORE:
                self._send(at)
                self.abort()
            case Cut.AFTER:
                self.cutting = True
                asyncio.get_running_loop().call_later(_REPLY_S, self.abort)
                self._send(len(self._buffer))
            case Cut.TERMINATED:
                self._send(len(self._buffer))
                self._proxy.run(self._proxy.terminate(self.backend_pid))

    def replied(self, data: bytes) -> None:
        """What the server says goes to the client, unless it is the reply that was ordered away."""
        if self.cutting:
            if b"COMMIT\0" in data:
                self.abort()
        elif self._transport is not None:
            self._transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.abort()

    def abort(self) -> None:
        """Both sides break."""
        self._proxy.open.discard(self)
        for transport in (self._transport, self._upstream):
            if transport is not None:
                transport.abort()


class _Upstream(asyncio.Protocol):
    """The same connection, from the server's side."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        if not self._client.backend_pid and (at := data.find(b"K\0\0\0\x0c")) >= 0:  # BackendKeyData
            self._client.backend_pid = int.from_bytes(data[at + 5 : at + 9], "big")
        self._client.replied(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.abort()
