"""The conditions of a running daemon as another process reads them, whatever serves the port."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from tests.kit.clocks import HandClock
from watcher.health.conditions import API
from watcher.health.metrics import Metrics
from watcher.health.observers import Observer
from watcher.health.prober import next_probe_s
from watcher.health.readyz import read_daemon
from watcher.ledger.lock import is_locked, lock_file, sole_writer
from watcher.task import Refused, Sent

CONTRACT = (31337, "0x" + "Ab" * 20)
BODY: dict[str, Any] = {
    "chain_id": 31337,
    "task_manager": "0x" + "ab" * 20,
    "services": {API: {}},
    "troubles": [{"key": API, "words": "refuses us", "since_ms": 5}],
    "next_probe_seconds": 12.5,
}


@asynccontextmanager
async def serving(reply: bytes) -> AsyncIterator[tuple[str, int]]:
    """A port that gives every request the same bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield "127.0.0.1", server.sockets[0].getsockname()[1]


def http(body: bytes) -> bytes:
    return b"HTTP/1.1 503 no\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def test_daemon_is_read_with_its_conditions() -> None:
    async with serving(http(json.dumps(BODY).encode())) as address:
        daemon = await asyncio.to_thread(read_daemon, address, *CONTRACT)
    assert (daemon.missing, daemon.next_probe_s, daemon.observes) == ("", 12.5, False)
    condition = daemon.condition(API)
    assert condition is not None
    assert (condition.message, condition.since_ms) == ("refuses us", 5)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"nonsense\r\n\r\n",
        http(b"<html>"),
        http(b"[" * 5000),
        http(json.dumps({**BODY, "troubles": [{"key": 1}]}).encode()),
        http(json.dumps({**BODY, "next_probe_seconds": "soon"}).encode()),
        http(b'{"x": "' + b"y" * 1_000_000 + b'"}'),
        b"HTTP/1.1 302 over there\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        http(json.dumps({**BODY, "chain_id": 1}).encode()),
        http(json.dumps({**BODY, "task_manager": "0x" + "00" * 20}).encode()),
    ],
)
async def test_daemon_is_missing_when_the_port_serves_something_else(reply: bytes) -> None:
    async with serving(reply) as address:
        daemon = await asyncio.to_thread(read_daemon, address, *CONTRACT)
    assert daemon.missing
    assert daemon.conditions == ()


async def test_daemon_is_missing_when_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = ("127.0.0.1", free.getsockname()[1])
        daemon = await asyncio.to_thread(read_daemon, address, *CONTRACT)
    assert "does not reply" in daemon.missing
    assert "off" in (await asyncio.to_thread(read_daemon, None, *CONTRACT)).missing


def test_next_probe_counts_down_while_an_api_refuses_us() -> None:
    clock = HandClock()
    observer = Observer(clock, Metrics("an avs"))
    assert next_probe_s(observer, [""], clock) is None
    observer.sent(Sent(Refused("HTTP 401", endpoint=True), 401, b"", 3))
    clock.now_s += 8
    assert next_probe_s(observer, [""], clock) == pytest.approx(12)
    clock.now_s += 60
    assert next_probe_s(observer, [""], clock) == 0


def test_lock_is_seen_while_it_is_held(tmp_path: Path) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    assert is_locked(url) is False
    with sole_writer(url):
        assert is_locked(url) is True
    assert lock_file(tmp_path / "watcher.db").exists()
    assert is_locked(url) is False
    assert is_locked(url, tmp_path / "no table") is None
    assert is_locked(URL.create("postgresql")) is None
