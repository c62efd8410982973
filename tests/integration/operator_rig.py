"""A real HTTP server that misbehaves in each way a real network does, and a client for it."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from watcher.clock import SystemClock
from watcher.operator.client import Client
from watcher.operator.endpoint import Endpoint
from watcher.operator.request import Request, proxy_request
from watcher.task import Refused, Sent, Sighting, Task

TX = bytes(range(1, 33))
PASSWORD = "correct-horse-battery"


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    head: str
    body: bytes

    @property
    def request_id(self) -> str:
        return str(json.loads(self.body)["id"])


Behaviour = Callable[["Api", Seen, asyncio.StreamWriter], Awaitable[None]]


class Api:
    """A real HTTP server on a free port, whose answers are whatever bytes the test wants."""

    def __init__(
        self, behaviour: Behaviour, *, tls: ssl.SSLContext | None = None, reads: bool = True, port: int = 0
    ) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.written_bytes = 0
        self.in_flight = self.most_in_flight = 0
        self.arrived = asyncio.Event()
        self.hold = asyncio.Event()
        self._behaviour = behaviour
        self._tls = tls
        self._reads = reads
        self._tasks: set[asyncio.Task[Any]] = set()
        self.port = port

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "Api":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing():
                seen = await self._read(reader) if self._reads else Seen("", b"")
                self.seen.append(seen)
                self.arrived.set()
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    await self._behaviour(self, seen, writer)
                finally:
                    self.in_flight -= 1
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> Seen:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = next(int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
        return Seen(head, await reader.readexactly(length))

    async def write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.written_bytes += len(data)


def http(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def success(seen: Seen) -> bytes:
    result = {"task_index": 1, "tx_hash": "0x" + TX.hex(), "sig_hash": "0x" + "00" * 32}
    return json.dumps({"id": seen.request_id, "result": result, "jsonrpc": "2.0"}).encode() + b"\n"


def failure(text: str, code: int = 0, request_id: object = 0) -> bytes:
    return json.dumps({"id": request_id, "error": {"code": code, "message": text}, "jsonrpc": "2.0"}).encode()


def answers(status: int, body: bytes, *headers: str, length: int | None = None, close: bool = False) -> Behaviour:
    async def behave(api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
        await api.write(writer, http(status, body, *headers, length=length))
        if close:
            writer.close()

    return behave


def says(data: bytes) -> Behaviour:
    """These bytes, then the end of the connection."""

    async def behave(api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
        await api.write(writer, data)
        writer.close()

    return behave


def repeats(first: bytes, later: bytes, pause_s: float = 0) -> Behaviour:
    """`again` without an end; the pause, where there is one, is the fault itself."""

    async def behave(api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
        await api.write(writer, first)
        while not writer.is_closing():
            await api.write(writer, later)
            await asyncio.sleep(pause_s)

    return behave


async def accepts(api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
    await api.write(writer, http(200, success(seen), "Content-Type: application/json"))


async def hangs(api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
    await api.hold.wait()
    await accepts(api, seen, writer)


async def closes(api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def resets(api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def resets_within_body(api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
    await api.write(writer, http(200, success(seen)[:20], length=500))
    await resets(api, seen, writer)


def make_request(request_id: int = 7) -> Request:
    seen_at = Sighting(10, bytes(32), bytes(32), 0)
    task = Task(31337, bytes(20), 100, bytes(32), 10, b"\x12\x34", b"\x00", 66, 110, seen_at)
    return proxy_request(task, b"\xab\xcd", method="respondToTask", request_id=request_id)


@asynccontextmanager
async def client_of(url: str, **changes: Any) -> AsyncIterator[Client]:
    settings: dict[str, Any] = {"username": "admin", "password": PASSWORD, "timeout_s": 5.0, "connect_timeout_s": 2.0}
    async with Client(Endpoint(url, **(settings | changes)), SystemClock()) as client:
        yield client


async def send_once(url: str, **changes: Any) -> Sent:
    async with client_of(url, **changes) as client:
        return await client.send(make_request())


def certainly_not_sent(sent: Sent) -> bool:
    return (
        isinstance(sent.outcome, Refused)
        and sent.outcome.reason.startswith("not sent: ")
        and not sent.outcome.endpoint
        and sent.http_status is None
    )
