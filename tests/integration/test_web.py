"""The HTTP server over real sockets: exact shapes and codes, whom it serves, what it refuses, a port that is taken."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random

import aiohttp
import pytest
from loguru import logger
from prometheus_client.parser import text_string_to_metric_families

from tests.kit.clocks import QuickClock
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.health.http import Web
from watcher.health.metrics import Metrics
from watcher.health.monitor import Monitor
from watcher.health.observers import Observer
from watcher.health.readings import ApiSeen, HookSeen, Limits, NodeSeen, Observations, StoreSeen, WorkSeen
from watcher.health.sites import Site, Sites
from watcher.health.verdict import evaluate

WELL = Observations(
    at_ms=1_000,
    started=True,
    node=NodeSeen(answered_ago_s=0.5, head_block=100),
    api=ApiSeen(used=True),
    hook=HookSeen(),
    work=WorkSeen(cursor_block=100, head_block=100, final_block=90, open_tasks=2, nearest_deadline_block=130),
)
STARTING = replace(WELL, started=False, work=None)
API_DOWN = replace(WELL, api=ApiSeen(refuses=True, reason="HTTP 401"))
STORE_DOWN = replace(WELL, store=StoreSeen(condition="disk is full"))


@dataclass
class Served:
    """A running server and what it speaks of."""

    web: Web
    monitor: Monitor
    session: aiohttp.ClientSession

    def say(self, seen: Observations) -> None:
        self.monitor.health = evaluate(seen, Limits())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web.port}"

    async def get(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> tuple[int, str, Mapping[str, str]]:
        async with self.session.request(method, self.url + path, headers=headers) as response:
            return response.status, await response.text(), response.headers


async def until(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(host: str = "127.0.0.1", port: int = 0, *, wait: bool = True) -> AsyncIterator[Served]:
    clock = QuickClock()
    metrics = Metrics("an avs")
    nodes = NodePool([Node("http://127.0.0.1:9", 1, clock)], clock, Random(1))
    monitor = Monitor(Observer(clock, metrics), metrics, clock, Limits(), nodes)
    sites = Sites()
    sites.attach(Site("", monitor, metrics.registry))
    web = Web((host, port), sites, clock)
    running = asyncio.create_task(web.run())
    try:
        async with aiohttp.ClientSession(trust_env=False) as session:
            served = Served(web, monitor, session)
            served.say(WELL)
            if wait:
                await until(lambda: web.port or running.done(), "it listens")
            yield served
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await nodes.close()


async def test_the_node_api_has_exactly_the_shapes_of_its_specification() -> None:
    async with serving() as served:
        status, body, headers = await served.get("/eigen/node")
        assert status == 200
        assert headers["Content-Type"].startswith("application/json")
        node = json.loads(body)
        assert set(node) == {"node_name", "spec_version", "node_version"}
        assert (node["node_name"], node["spec_version"]) == ("avs-task-watcher", "v0.0.1")
        assert (await served.get("/eigen/node?version=v0.0.1"))[0] == 200

        status, body, _ = await served.get("/eigen/node/services")
        services = json.loads(body)["services"]
        assert status == 200
        assert [service["id"] for service in services] == ["chain-rpc", "operator-api", "handler", "store", "watch"]
        assert all(set(service) == {"id", "name", "description", "status"} for service in services)
        assert {service["status"] for service in services} == {"Up"}


@pytest.mark.parametrize(
    ("seen", "node", "services"),
    [
        (WELL, 200, {"chain-rpc": 200, "operator-api": 200, "store": 200, "watch": 200, "nobody": 404}),
        (STARTING, 206, {"chain-rpc": 200, "store": 206, "watch": 206}),
        (API_DOWN, 206, {"operator-api": 503, "chain-rpc": 200}),
        (STORE_DOWN, 503, {"store": 503, "operator-api": 200}),
    ],
)
async def test_node_api_health_is_a_status_code_alone(seen: Observations, node: int, services: dict[str, int]) -> None:
    async with serving() as served:
        served.say(seen)
        assert (await served.get("/eigen/node/health"))[:2] == (node, "")
        for service, expected in services.items():
            assert (await served.get(f"/eigen/node/services/{service}/health"))[:2] == (expected, "")
        assert (await served.get("/readyz"))[0] == (200 if node == 200 else 503)


@pytest.mark.parametrize("path", ["/eigen/node", "/eigen/node/health", "/eigen/node/services"])
async def test_node_api_refuses_another_version_of_the_specification(path: str) -> None:
    async with serving() as served:
        status, body, _ = await served.get(f"{path}?version=v9")
        assert (status, json.loads(body)) == (404, {"message": "API version not found"})


async def test_readyz_gives_the_reasons_and_metrics_can_be_parsed() -> None:
    async with serving() as served:
        served.say(API_DOWN)
        status, body, _ = await served.get("/readyz")
        readiness = json.loads(body)
        assert status == 503
        assert readiness["ready"] is False
        assert readiness["reasons"] == ["operator-api: refuses us (HTTP 401)"]
        assert readiness["troubles"] == [{"key": "operator-api", "words": "refuses us (HTTP 401)", "since_ms": 1_000}]
        assert (readiness["cursor_block"], readiness["open_tasks"], readiness["nearest_deadline_blocks"]) == (
            100,
            2,
            30,
        )
        status, body, headers = await served.get("/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain")
        names = {family.name for family in text_string_to_metric_families(body)}
        assert {"eigen_performance_score", "avs_watcher_ready", "process_resident_memory_bytes"} <= names
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        _, body, headers = await served.get("/metrics", accept)
        assert headers["Content-Type"].startswith("application/openmetrics-text")
        assert body.endswith("# EOF\n")


@pytest.mark.parametrize(
    "accept",
    ["application/openmetrics-text; version=one", "text/plain; version=1.x", "application/json", ",;=;version=,"],
)
async def test_metrics_are_plain_text_when_the_format_is_unknown(accept: str) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message), level="DEBUG")
    try:
        async with serving() as served:
            status, body, headers = await served.get("/metrics", {"Accept": accept})
            assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
            assert list(text_string_to_metric_families(body))
    finally:
        logger.remove(sink)
    assert not [line for line in lines if "health.request_failed" in line]


async def test_livez_is_about_this_process_only() -> None:
    async with serving() as served:
        served.say(STORE_DOWN)
        assert (await served.get("/livez"))[0] == 200
        served.monitor.evaluated_s -= 3600
        status, body, _ = await served.get("/livez")
        assert status == 503
        assert json.loads(body)["reasons"] == ["the watcher does not evaluate its health any more"]
        served.say(WELL)
        assert (await served.get("/readyz"))[0] == 503, "what was true an hour ago is not known to be true"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"])
async def test_web_serves_only_get(method: str) -> None:
    async with serving() as served:
        for path in ("/readyz", "/metrics", "/eigen/node"):
            status, _, headers = await served.get(path, method=method)
            assert (status, headers["Allow"]) == (405, "GET")


async def test_other_paths_are_not_found_and_every_answer_is_locked_down() -> None:
    async with serving() as served:
        for path in ("/", "/metrics/..%2f..%2fetc/passwd", "/eigen/node/services/%00/health", "/x" * 3000):
            status, body, headers = await served.get(path)
            assert status == 404
            assert headers["Content-Security-Policy"] == "default-src 'none'"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "aiohttp" not in headers["Server"] + body


async def test_web_refuses_a_rebound_host_name() -> None:
    async with serving() as served:
        port = served.web.port
        for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "", "127.0.0.1.evil:80", "[::1"):
            assert (await served.get("/readyz", {"Host": host}))[0] in (400, 403), host
        for host in ("localhost", f"localhost:{port}", "LOCALHOST:1", f"127.0.0.1:{port}", "[::1]", f"[::1]:{port}"):
            assert (await served.get("/readyz", {"Host": host}))[0] == 200, host


async def test_bound_to_every_address_any_name_may_lead_here() -> None:
    async with serving("0.0.0.0") as served:
        assert (await served.get("/readyz", {"Host": "watcher.internal:9010"}))[0] == 200


async def test_a_flood_of_connections_is_bounded_and_passes() -> None:
    async with serving() as served:
        pairs = [await asyncio.open_connection("127.0.0.1", served.web.port) for _ in range(100)]
        await asyncio.sleep(0.1)
        closed = sum(reader.at_eof() for reader, _ in pairs)
        assert 30 <= closed <= 40
        for _, writer in pairs:
            writer.close()

        async def answers() -> bool:
            try:
                return (await served.get("/livez"))[0] == 200
            except aiohttp.ClientError:
                return False

        deadline_s = time.monotonic() + 10
        while not await answers():
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)


async def test_web_stops_while_a_connection_is_kept_open() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.web.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 5
    assert await reader.read() is not None
    writer.close()


async def test_web_logs_a_taken_port_once_and_listens_when_it_is_free() -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="INFO")
    blocker = socket.socket()
    try:
        blocker.bind(("127.0.0.1", 0))
        blocker.listen()
        async with serving(port=blocker.getsockname()[1], wait=False) as served:
            await until(lambda: lines, "it is logged")
            await asyncio.sleep(0.2)  # some more tries: that nothing more is said has no event to wait for
            assert served.web.port == 0
            assert len(lines) == 1
            assert lines[0].startswith("health.cannot_listen: ")
            blocker.close()
            await until(lambda: served.web.port, "it listens")
            assert (await served.get("/livez"))[0] == 200
    finally:
        logger.remove(sink)
        blocker.close()


NOT_HTTP = {
    "nonsense": b"\x00\xff\xfe\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    "no version": b"GET /readyz\r\n\r\n",
    "another version": b"GET /readyz HTTP/9.x\r\nHost: 127.0.0.1\r\n\r\n",
    "a bad header": b"GET /readyz HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n",
    "a header with a control": b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\x00b\r\n\r\n",
    "a long line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(2_000)) + b"\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a negative length": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    "a bad chunk": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a bad target": b"GET http://[::1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a bad host": b"GET /readyz HTTP/1.1\r\nHost: [\r\n\r\n",
    "a bad escape": b"GET /eigen/node?version=%ff%zz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a bad body": b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx",
    "an upgrade": b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81",
    "a second request that is none": b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET\x00\r\n\r\n",
    "half a request": b"GET /readyz HT",
}


@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_web_logs_nothing_when_a_request_is_malformed(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.web.port)
        writer.write(data)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer == b"" or answer.startswith(b"HTTP/1.")
        assert b"Traceback" not in answer
        assert (await served.get("/livez"))[0] == 200
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_web_logs_a_bug_of_ours_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[str] = []
    sink = logger.add(lambda message: records.append(str(message)), level="INFO", format="{message}")
    try:
        async with serving() as served:
            monkeypatch.setattr(served.monitor, "health", None)
            assert (await served.get("/readyz"))[0] == 500
    finally:
        logger.remove(sink)
    assert any("Traceback" in record for record in records)
