"""The hosted operator's proxy API without delay or faults, in a process of its own.

It checks credentials and methods, and replies in the proxy's shape with the true digest. It parses HTTP by hand, so
that the benchmark does not measure the server.
"""

import asyncio
import base64
import json
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from watcher.devnet.contract import response_digest

_METHOD = "operator_createSigTaskResponse"
_START_TIMEOUT_S = 30


class Exchange(asyncio.Protocol):
    """One connection: requests one after the other, each with an immediate reply."""

    def __init__(self, authorization: bytes) -> None:
        self._authorization = authorization
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            size = _content_length(head)
            if len(self._buffer) < end + 4 + size:
                return
            self.requested()
            body, self._buffer = self._buffer[end + 4 : end + 4 + size], self._buffer[end + 4 + size :]
            self._transport.write(_reply(head, body, self._authorization))

    def requested(self) -> None:
        """Note a complete request, before its reply. Does nothing here."""


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    return int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def _reply(head: bytes, body: bytes, authorization: bytes) -> bytes:
    if authorization not in head:
        return b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    call = json.loads(body)
    params = call["params"][0]
    if call["method"] != _METHOD or params["method"] != "respondToTask":
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    digest = response_digest(params["task_index"], bytes.fromhex(params["resp_message"][2:]))
    # As in the real API: a counter of its own, and no transaction yet.
    result = {"task_index": 0, "tx_hash": "0x" + "00" * 32, "sig_hash": "0x" + digest.hex()}
    text = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


async def _listen(authorization: bytes, parent: Connection) -> None:
    loop = asyncio.get_running_loop()
    parent_ended = asyncio.Event()
    loop.add_reader(parent.fileno(), parent_ended.set)  # The parent never writes: readable means that it has ended.
    async with await loop.create_server(lambda: Exchange(authorization), "127.0.0.1", 0) as server:
        parent.send(server.sockets[0].getsockname()[1])
        await parent_ended.wait()


def _main(authorization: bytes, parent: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_listen(authorization, parent))


@contextmanager
def instant_api(username: str, password: str) -> Iterator[str]:
    """Run the server in a process of its own, and yield its URL."""
    authorization = b"Basic " + base64.b64encode(f"{username}:{password}".encode())
    spawn = multiprocessing.get_context("spawn")
    connection, child_connection = spawn.Pipe()
    process = spawn.Process(target=_main, args=(authorization, child_connection), daemon=True)
    process.start()
    child_connection.close()
    try:
        if not connection.poll(_START_TIMEOUT_S):
            raise RuntimeError("the local API did not start")
        yield f"http://127.0.0.1:{connection.recv()}/"
    finally:
        connection.close()
        process.join()
