"""The hosted operator's proxy API without faults, in the process of the benchmark. It records each POST.

It checks credentials and methods, and replies in the proxy's shape with the true digest, at once or after a delay. It
parses HTTP by hand, so that the benchmark does not measure the server.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.program import PASSWORD
from watcher.devnet.contract import response_digest

_METHOD = "operator_createSigTaskResponse"
USERNAME = "admin"


class Arrivals:
    """The POSTs so far: the time of the first one of each task (monotonic, in seconds), and how many came in all."""

    def __init__(self) -> None:
        self.at_s: dict[int, float] = {}
        self.posts = 0
        self._arrived = asyncio.Event()

    def add(self, index: int, at_s: float) -> None:
        self.at_s.setdefault(index, at_s)
        self.posts += 1
        self._arrived.set()

    async def wait(self, tasks: int, timeout_s: float) -> bool:
        """Wait until POSTs of so many tasks have arrived. Return False when time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.at_s) < tasks:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return False
        return True


class Exchange(asyncio.Protocol):
    """One connection: requests one after the other, each with its reply after `delay_s` seconds."""

    def __init__(self, authorization: bytes, record: Arrivals | None = None, delay_s: float = 0.0) -> None:
        self._authorization, self._record, self._delay_s = authorization, record, delay_s
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        arrived_s = time.monotonic()
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            size = _content_length(head)
            if len(self._buffer) < end + 4 + size:
                return
            self.requested()
            body, self._buffer = self._buffer[end + 4 : end + 4 + size], self._buffer[end + 4 + size :]
            reply = self._reply(head, body, arrived_s)
            if self._delay_s:
                asyncio.get_running_loop().call_later(self._delay_s, self._write, reply)
            else:
                self._write(reply)

    def requested(self) -> None:
        """Handle a complete request before its reply. Does nothing here."""

    def _write(self, reply: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(reply)

    def _reply(self, head: bytes, body: bytes, arrived_s: float) -> bytes:
        if head.startswith((b"HEAD ", b"GET ")):
            return b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
        if self._authorization not in head:
            return b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        call = json.loads(body)
        params = call["params"][0]
        if call["method"] != _METHOD or params["method"] != "respondToTask":
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        if self._record is not None:
            self._record.add(params["task_index"], arrived_s)
        digest = response_digest(params["task_index"], bytes.fromhex(params["resp_message"][2:]))
        # As in the real API: a counter of its own, and no transaction yet.
        result = {"task_index": 0, "tx_hash": "0x" + "00" * 32, "sig_hash": "0x" + digest.hex()}
        text = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    return int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


@asynccontextmanager
async def local_api(delay_s: float = 0.0) -> AsyncIterator[tuple[str, Arrivals]]:
    """Serve the API on a free port; yield its URL and its record. Each reply takes `delay_s` seconds."""
    authorization = b"Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode())
    arrivals = Arrivals()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Exchange(authorization, arrivals, delay_s), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", arrivals
    finally:
        server.close()
