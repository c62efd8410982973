"""Services as hooks (`http://`): a fault costs the task that it met, and a pool of services goes on without one."""

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from loguru import logger

from watcher.errors import AttemptFailed, TryLater
from watcher.hook.http import HttpRunner
from watcher.hook.plan import PoolPlan
from watcher.hook.services import Service, ServicePool
from watcher.task import Later, Response, Skip
from watcher.testing import make_task

SECRET = "canary-1234"


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


class Site:
    """A service whose behaviour the message of a task names. Keeps the heads of its requests."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.code_version = ""
        self.cut = asyncio.Event()  # a client has closed a connection before its reply
        self.busy = asyncio.Event()
        self.go_on = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self.handle(reader, writer):
                    pass
        finally:
            writer.close()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return False to close the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        size = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        request = json.loads(await reader.readexactly(size))
        name, _, rest = bytes.fromhex(request["task"]["message"][2:]).decode().partition(" ")
        return bool(await getattr(self, name)(request["id"], rest, reader, writer))

    def reply(self, request_id: str, **fields: object) -> bytes:
        return http(json.dumps({"version": 1, "id": request_id, "hook_version": self.code_version, **fields}).encode())

    async def echo(self, request_id: str, rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.reply(request_id, verdict="answer", response="0x" + rest.encode().hex()))
        return rest != "and close"

    async def early(self, request_id: str, _rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        """Reply, and again when told to: a reply that no request has asked for."""
        writer.write(self.reply(request_id, verdict="answer", response="0x"))
        await self.go_on.wait()
        writer.write(self.reply(request_id, verdict="answer", response="0x"))
        return True

    async def skip(self, request_id: str, _rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.reply(request_id, verdict="skip", reason="not ours"))
        return True

    async def later(self, request_id: str, _rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.reply(request_id, verdict="later", seconds=2))
        return True

    async def failed(self, request_id: str, _rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.reply(request_id, verdict="failed", reason="no price"))
        return True

    async def number(self, request_id: str, _rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.reply(request_id, verdict="answer", response=7))
        return True

    async def huge(self, request_id: str, _rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.reply(request_id, verdict="answer", response="0x" + "00" * 200_000))
        return True

    async def other_id(self, _id: str, _rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.reply("another", verdict="skip"))
        return True

    async def status(self, _id: str, rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        writer.write(http(b"<html>", rest, "Location: http://127.0.0.1:1/\r\n"))
        return True

    async def raw(self, _id: str, rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        writer.write(RAW[rest])
        return False

    async def endless(self, _id: str, _rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
                await writer.drain()
        self.cut.set()
        return False

    async def endless_head(self, _id: str, _rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                writer.write(b"X: " + b"y" * 4000 + b"\r\n")
                await writer.drain()
        return False

    async def hangs(self, _id: str, _rest: str, reader: asyncio.StreamReader, _: object) -> bool:
        self.busy.set()
        await reader.read()
        self.cut.set()
        return False

    async def waits(self, request_id: str, _rest: str, _: object, writer: asyncio.StreamWriter) -> bool:
        self.busy.set()
        await self.go_on.wait()
        writer.write(self.reply(request_id, verdict="answer", response="0x"))
        return True


RAW = {
    "nothing": b"",
    "noise": b"\xff\x00 noise\r\n\r\n",
    "half": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    "gzip": http(b"\x1f\x8b\x08", headers="Content-Encoding: gzip\r\n"),
    "html": http(b"<html>"),
    "list": http(b"[]"),
    "deep": http(b"[" * 100_000),
    "many": http(b"[" + b"[]," * 100_000 + b"0]"),
}
FAULTS = [
    ("failed", "the hook failed: no price"),
    ("number", 'the "response" of the hook\'s reply is not text'),
    ("huge", "returned 200,000 bytes; the limit is 131,072"),
    ("other_id", "does not have the id of its request"),
    ("status 500 Oops", "replied with HTTP status 500"),
    ("status 404 Not Found", "replied with HTTP status 404"),
    ("status 502 Bad Gateway", "replied with HTTP status 502"),
    ("status 307 Elsewhere", "the service redirects (HTTP status 307); name the final URL"),
    ("raw nothing", "closed the connection without a reply"),
    ("raw noise", "not whole, or not HTTP"),
    ("raw half", "not whole, or not HTTP"),
    ("raw gzip", "reply is packed (Content-Encoding: gzip)"),
    ("raw html", "reply is not JSON"),
    ("raw list", "not a JSON object"),
    ("raw deep", "more than 10,000 values"),
    ("raw many", "more than 10,000 values"),
    ("endless", "reply is longer than"),
    ("endless_head", "not whole, or not HTTP"),
    ("hangs", "took longer than timeout_s = 4 s; the request was cancelled"),
]


@contextlib.asynccontextmanager
async def served(tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[tuple[Site, int]]:
    site = Site()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(site.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=tls)
    try:
        yield site, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def free_port() -> int:
    async with served() as (_, port):
        return port


async def answer(runner: HttpRunner, message: str) -> Response:
    response = await runner.run(make_task(message.encode()))
    assert isinstance(response, Response)
    return response


async def failure(runner: HttpRunner, message: str) -> str:
    with pytest.raises(AttemptFailed) as caught:
        await runner.run(make_task(message.encode()))
    assert str(caught.value).isprintable()
    return str(caught.value)


async def test_service_answers_task_after_task_on_few_connections() -> None:
    async with served() as (site, port), HttpRunner(f"http://127.0.0.1:{port}/hook", PoolPlan(workers=2)) as runner:
        responses = await asyncio.gather(*(answer(runner, f"echo {i}") for i in range(50)))
        assert [response.resp_message for response in responses] == [str(i).encode() for i in range(50)]
        assert await runner.run(make_task(b"skip")) == Skip("not ours")
        assert await runner.run(make_task(b"later")) == Later(seconds=2)
        assert site.connections <= 3  # the first one only checks that the service is there
        assert all(head.startswith("POST /hook HTTP/1.1") for head in site.heads)


async def test_fault_of_a_service_costs_only_the_task_it_met() -> None:
    plan = PoolPlan(workers=4, timeout_s=4)
    async with served() as (_, port), HttpRunner(f"http://127.0.0.1:{port}/", plan) as runner:
        others = [asyncio.create_task(answer(runner, f"echo {i}")) for i in range(40)]
        faults = {fault: asyncio.create_task(failure(runner, fault)) for fault, _ in FAULTS}
        others += [asyncio.create_task(answer(runner, f"echo {i}")) for i in range(40, 80)]
        assert [response.resp_message for response in await asyncio.gather(*others)] == [
            str(i).encode() for i in range(80)
        ]
        for fault, message in FAULTS:
            assert message in await faults[fault], fault


async def test_workers_bounds_the_requests_at_a_time() -> None:
    async with served() as (site, port), HttpRunner(f"http://127.0.0.1:{port}/", PoolPlan(workers=1)) as runner:
        first = asyncio.create_task(answer(runner, "waits"))
        await site.busy.wait()
        second = asyncio.create_task(answer(runner, "echo x"))
        # A request of the second task would arrive before that of a runner that starts later.
        async with HttpRunner(f"http://127.0.0.1:{port}/", PoolPlan()) as other:
            await answer(other, "echo y")
        assert len(site.heads) == 2
        site.go_on.set()
        await asyncio.gather(first, second)


async def test_cancelling_a_run_closes_its_connection() -> None:
    async with served() as (site, port), HttpRunner(f"http://127.0.0.1:{port}/", PoolPlan(workers=1)) as runner:
        run = asyncio.create_task(answer(runner, "hangs"))
        await site.busy.wait()
        run.cancel()
        await asyncio.wait_for(site.cut.wait(), 10)
        assert (await answer(runner, "echo x")).resp_message == b"x"


async def test_connection_that_the_service_closed_is_replaced() -> None:
    async with served() as (_, port), HttpRunner(f"http://127.0.0.1:{port}/", PoolPlan(workers=1)) as runner:
        for _ in range(5):
            assert (await answer(runner, "echo and close")).resp_message == b"and close"


async def test_connection_with_a_reply_that_nobody_asked_for_is_replaced() -> None:
    async with served() as (site, port), HttpRunner(f"http://127.0.0.1:{port}/", PoolPlan(workers=1)) as runner:
        await answer(runner, "early")
        before = site.connections
        site.go_on.set()
        for _ in range(20):  # it is on the way through this very loop
            await asyncio.sleep(0)
        assert (await answer(runner, "echo next")).resp_message == b"next"
        assert site.connections == before + 1


async def test_pool_goes_on_without_a_service_that_is_down() -> None:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)))
    down = await free_port()
    try:
        async with served() as (site, port):
            target = f"http://127.0.0.1:{down}/a, http://127.0.0.1:{port}/b"
            async with HttpRunner(target, PoolPlan(workers=4)) as runner:
                await asyncio.gather(*(answer(runner, f"echo {i}") for i in range(20)))
                assert len(site.heads) == 20
                async with served(port=down) as (other, _):
                    async with asyncio.timeout(20):
                        while not other.heads:
                            await asyncio.gather(*(answer(runner, f"echo {i}") for i in range(20)))
    finally:
        logger.remove(sink)
    assert sum("hook.service_down" in line for line in lines) == 1
    assert sum("hook.service_back" in line for line in lines) == 1


async def test_tasks_wait_while_no_service_can_be_reached_or_all_are_busy() -> None:
    async with served() as (_, port):
        runner = HttpRunner(f"http://127.0.0.1:{port}/", PoolPlan(workers=1))
        await runner.__aenter__()
        with pytest.raises(TryLater, match="is busy"):
            await runner.run(make_task(b"status 503 Busy"))
        with pytest.raises(TryLater, match="is busy"):
            await runner.run(make_task(b"status 429 Slow down"))
        assert (await answer(runner, "echo x")).resp_message == b"x"
    with pytest.raises(TryLater, match="no service takes a task now"):
        await runner.run(make_task(b"echo x"))
    await runner.__aexit__(None, None, None)


async def test_service_that_is_away_at_the_start_is_waited_for() -> None:
    port = await free_port()
    with pytest.raises(TryLater, match="no service can be reached: http://127"):
        async with HttpRunner(f"http://user:{SECRET}@127.0.0.1:{port}/{SECRET}", PoolPlan()):
            raise AssertionError


async def test_credentials_reach_the_service_and_no_message() -> None:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)))
    async with served() as (site, port):
        target = f"http://user:{SECRET}%C3%A9%3A@127.0.0.1:{port}/path-{SECRET}?key={SECRET}"
        async with HttpRunner(target, PoolPlan(timeout_s=1)) as runner:
            response = await answer(runner, "echo x")
            seen = [response.hook_version, runner.version]
            seen += [await failure(runner, fault) for fault, _ in FAULTS]
            with pytest.raises(TryLater) as busy:
                await runner.run(make_task(b"status 503 Busy"))
            seen.append(str(busy.value))
    logger.remove(sink)
    assert "Authorization: Basic " in site.heads[0] and "@" not in site.heads[0]
    assert f"POST /path-{SECRET}?key={SECRET} " in site.heads[0]
    assert [text for text in [*seen, *lines] if SECRET in text or "user" in text] == []
    assert response.hook_version == f"http://127.0.0.1:{port}"


async def test_version_of_a_service_is_recorded_and_a_change_shown() -> None:
    async with served() as (site, port), HttpRunner(f"http://127.0.0.1:{port}/", PoolPlan()) as runner:
        site.code_version = "1.0"
        assert (await answer(runner, "echo x")).hook_version == f"http://127.0.0.1:{port} 1.0"
        assert await runner.changed_files() == ""
        site.code_version = "1.1"
        assert (await answer(runner, "echo x")).hook_version == f"http://127.0.0.1:{port} 1.1"
        assert await runner.changed_files() == f"http://127.0.0.1:{port} (was 1.0, is 1.1)"
        await runner.reload()
        assert await runner.changed_files() == ""


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A context with a certificate of its own, tmp_path / "cert.pem"."""
    _make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


async def test_certificate_is_verified(tls: ssl.SSLContext) -> None:
    async with served(tls) as (_, port):
        with pytest.raises(TryLater, match="its certificate is not valid: self-signed"):
            async with HttpRunner(f"https://127.0.0.1:{port}/", PoolPlan()):
                raise AssertionError


async def test_certificate_of_a_named_authority_is_taken(tls: ssl.SSLContext, tmp_path: Path) -> None:
    async with served(tls) as (_, port):
        (tmp_path / "watcher.toml").write_text(f'[hook]\ntarget = "https://127.0.0.1:{port}/"\n')
        command = [sys.executable, "-m", "watcher", "hook", "try", "--message", "0x" + b"echo x".hex(), "--json"]
        command += ["--config", str(tmp_path / "watcher.toml")]
        environment = os.environ | {"SSL_CERT_FILE": str(tmp_path / "cert.pem")}
        root = Path(__file__).parents[2]
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment, cwd=root, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["response"] == "0x" + b"x".hex()


def _make_certificate(folder: Path) -> None:
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", *kind, *names, *files], check=True, capture_output=True)


def _pool(now_s: Callable[[], float]) -> tuple[ServicePool, Service, Service]:
    first, second = Service("http://a/", "http://a"), Service("http://b/", "http://b")
    return ServicePool([first, second], now_s), first, second


def test_rest_of_a_service_doubles_and_ends() -> None:
    now_s = 0.0
    pool, first, second = _pool(lambda: now_s)
    rests = []
    for _ in range(9):
        pool.rest(first, "refused")
        rests.append(first.rests_until_s - now_s)
        assert pool.choose([]) is second and pool.choose([second]) is None
        now_s = first.rests_until_s
        assert pool.choose([second]) is first
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_slow_service_comes_last_and_is_never_left_out() -> None:
    pool, first, second = _pool(lambda: 0.0)
    second.in_flight = 9
    assert pool.choose([]) is first
    pool.delay(first)
    assert pool.choose([]) is second and pool.choose([second]) is first
