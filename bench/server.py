"""The hosted operator's proxy API as fast as it can be answered: a process of its own, no delay, no faults.

It checks what a benchmark must not get wrong (credentials, the method, that no task is answered twice differently) and
answers in the proxy's shape, with the true digest. HTTP is parsed by hand, so that the server is not what is measured.
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


class _Exchange(asyncio.Protocol):
    """One connection: requests one after the other, each answered at once."""

    def __init__(self, authorization: bytes) -> None:
        self._authorization = authorization
        self._held = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end]
            size = _content_length(head)
            if len(self._held) < end + 4 + size:
                return
            body, self._held = self._held[end + 4 : end + 4 + size], self._held[end + 4 + size :]
            self._transport.write(_reply(head, body, self._authorization))


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
    signed = response_digest(params["task_index"], bytes.fromhex(params["resp_message"][2:]))
    # As the real one does: a counter of its own, and no transaction yet.
    result = {"task_index": 0, "tx_hash": "0x" + "00" * 32, "sig_hash": "0x" + signed.hex()}
    text = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


async def _listen(authorization: bytes, parent: Connection) -> None:
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(parent.fileno(), gone.set)  # the parent never writes: readable means that it has ended
    async with await loop.create_server(lambda: _Exchange(authorization), "127.0.0.1", 0) as server:
        parent.send(server.sockets[0].getsockname()[1])
        await gone.wait()


def _main(authorization: bytes, parent: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_listen(authorization, parent))


@contextmanager
def instant_api(username: str, password: str) -> Iterator[str]:
    """The server in a process of its own, and its URL."""
    authorization = b"Basic " + base64.b64encode(f"{username}:{password}".encode())
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_main, args=(authorization, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_START_TIMEOUT_S):
            raise RuntimeError("the local API did not start")
        yield f"http://127.0.0.1:{ours.recv()}/"
    finally:
        ours.close()
        process.join()
