"""No secret in anything the program writes, says or hands on: not in any spelling, at any log level, in any trouble.

Each secret is a canary. The node and the API throw all they know of ours back at us, the hook prints what it sees, and
every byte that comes out is searched.
"""

import asyncio
import base64
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, quote_plus

import aiohttp
import pytest
from aiohttp import web
from loguru import logger

from tests.system.daemon_rig import Daemon, Rig, running_rig
from watcher.cli.main import run
from watcher.devnet.faults import Fault, FaultKind
from watcher.hook import syscalls

NODE_USER = "reader"
NODE_PASSWORD = "zQ7x-K"  # shorter than most, as people choose them
NODE_KEY = "cAnArYnodeKey0f3b1c2d"
NODE_QUERY = "cAnArYnodeQuery77aa88"
API_PATH = "cAnArYapiPath5566eeff"
PASSWORD = 'cAnArY pw/+%&"5?=\\ä'  # every character that some spelling changes
SECRETS = {
    "the node's password": NODE_PASSWORD,
    "the key in the node's path": NODE_KEY,
    "the key in the node's query": NODE_QUERY,
    "the key in the API's path": API_PATH,
    "the API's password": PASSWORD,
}
NODE_MARK, API_MARK, HOOK_MARK = "node-echo-7261", "api-echo-9915", "hook-echo-4410"

HOOK = f'''
import os
from pathlib import Path

from watcher import Skip, Task


def respond(task: Task) -> bytes | Skip:
    seen = repr(dict(os.environ)) + Path("/proc/self/cmdline").read_text() + os.getcwd()
    print("{HOOK_MARK}", seen)
    number = int.from_bytes(task.message, "big")
    if number % 5 == 0:
        raise RuntimeError("{HOOK_MARK} " + seen)
    if number % 7 == 0:
        return Skip("{HOOK_MARK} " + seen[:500])
    return task.message
'''


def spellings(secret: str) -> Iterator[bytes]:
    """A secret as it may stand in text, in a URL, in JSON, in Python, in hex, and in base64 behind anything."""
    raw = secret.encode()
    texts = {secret, secret.lower(), secret.upper(), quote(secret), quote(secret, safe=""), quote_plus(secret)}
    texts |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    texts |= {raw.hex(), raw.hex().upper()}
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw).decode()
        inner = encoded[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]
        texts |= {inner, inner.replace("+", "-").replace("/", "_")}
    yield from (text.encode() for text in texts)
    yield secret.encode("utf-16-le")


def assert_clean(what: str, blob: bytes) -> None:
    for name, secret in SECRETS.items():
        for spelling in spellings(secret):
            at = blob.find(spelling)
            assert at < 0, f"{name} is in {what} as {spelling!r}: ...{blob[max(0, at - 200) : at + 100]!r}"


def test_the_search_finds_what_it_is_for() -> None:
    for spelled in (
        base64.b64encode(f"{NODE_USER}:{NODE_PASSWORD}".encode()),
        base64.urlsafe_b64encode(f"admin:{PASSWORD}".encode()),
        f"https://h/{quote(PASSWORD, safe='')}".encode(),
        json.dumps({"url": f"/v2/{NODE_KEY}"}).encode().hex().encode(),
        f"/{API_PATH.lower()}".encode(),
    ):
        with pytest.raises(AssertionError):
            assert_clean("a sample", spelled)


class Node:
    """A proxy before the chain that can turn on whoever asks: it answers with the request's own secrets."""

    def __init__(self, behind: str, session: aiohttp.ClientSession) -> None:
        self._behind, self._session = behind, session
        self.mode = "forward"
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{NODE_USER}:{NODE_PASSWORD}@127.0.0.1:{self.port}/v2/{NODE_KEY}?key={NODE_QUERY}"

    async def serve(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.mode == "forward":
            async with self._session.post(
                self._behind, data=body, headers={"Content-Type": "application/json"}
            ) as done:
                return web.Response(status=done.status, body=await done.read(), content_type="application/json")
        credentials = request.headers.get("Authorization", "none")
        assert credentials.startswith("Basic "), "the daemon sends the URL's user and password"
        plain = base64.b64decode(credentials.removeprefix("Basic ")).decode()
        message = (
            f"{NODE_MARK}: {request.path_qs} is not for {plain} {plain.partition(':')[2]} ({credentials}) at {self.url}"
        )
        error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": message, "data": message}}
        match self.mode:
            case "error in JSON":
                return web.json_response(error)
            case "500":
                return web.json_response(error, status=500, reason=NODE_KEY, headers={"X-Echo": message})
            case "html":
                return web.Response(text=f"<html>{message}</html>", content_type="text/html")
            case "redirect":
                return web.Response(status=307, headers={"Location": self.url})
        raise AssertionError(self.mode)


@asynccontextmanager
async def echoing_node(behind: str) -> AsyncIterator[Node]:
    async with aiohttp.ClientSession() as session:
        node = Node(behind, session)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", node.serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        node.port = runner.addresses[0][1]
        try:
            yield node
        finally:
            await runner.cleanup()


def api_echo() -> str:
    """What an API might throw back: the header it got, the password, the address it was asked at."""
    header = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    spelled = f"{PASSWORD} {quote(PASSWORD, safe='')} {quote_plus(PASSWORD)} {header} {PASSWORD.encode().hex()}"
    return f"{API_MARK}: Authorization: Basic {header} is wrong, {spelled} at /{API_PATH}/x http://h/{API_PATH}"


API_FAULTS = [
    Fault(FaultKind.TRANSIENT_400, text=api_echo(), times=2),
    Fault(FaultKind.TRANSIENT_400, text="the task already finished: " + api_echo(), times=2),
    Fault(FaultKind.STATUS, status=500, text=api_echo(), times=2),
    Fault(FaultKind.STATUS, status=413, text=api_echo(), times=1),
    Fault(FaultKind.RAW_BODY, text=api_echo(), times=2),
    Fault(FaultKind.RAW_BODY, text="x" * 4000 + api_echo(), times=2),
    Fault(FaultKind.REDIRECT, location=f"http://admin:{quote(PASSWORD, safe='')}@127.0.0.1:9/{API_PATH}", times=1),
]


class Collector:
    """Everything the program has put out, by name."""

    def __init__(self, rig: Rig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.rig, self._capfd = rig, capfd
        self.blobs: dict[str, bytes] = {}
        # So wide that no table breaks a secret in two.
        rig.environment |= {"WATCHER_LOG": "trace", "COLUMNS": "400"}
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)

    async def commands(self, when: str, *commands: str) -> None:
        """Runs these commands in this process, to be quick, and keeps what comes out of it."""
        for command in commands:
            code = await asyncio.to_thread(run, [*command.split(), "--config", str(self.rig.config)])
            captured = self._capfd.readouterr()
            assert code != 70, captured.err
            self.blobs[f"`watcher {command}` {when}"] = (captured.out + captured.err).encode()

    def processes(self, daemon: Daemon) -> None:
        """What the daemon's workers were given, and what all of it shows in a list of processes."""
        workers = _below(daemon.pid)
        assert len(workers) >= 2
        for pid in workers:
            self.blobs[f"the environment of worker {pid}"] = Path(f"/proc/{pid}/environ").read_bytes()
        for pid in [daemon.pid, *workers]:
            self.blobs[f"the command line of {pid}"] = Path(f"/proc/{pid}/cmdline").read_bytes()

    def files(self, when: str) -> None:
        """Every file it made: ledger, write-ahead log, lock, copies, log; and each value of the ledger by itself."""
        ours = {self.rig.config, *self.rig.hook_folder.rglob("*"), *(self.rig.folder / "devnet").rglob("*")}
        for path in sorted(self.rig.folder.rglob("*")):
            if path.is_file() and path not in ours and "__pycache__" not in path.parts:
                self.blobs[f"{path.name} {when}"] = path.read_bytes()
        # A long value lies on several pages, not always next to each other.
        self.blobs[f"the ledger's values {when}"] = b"\n".join(_values(self.rig.ledger))

    def assert_clean(self) -> None:
        for what, blob in self.blobs.items():
            assert_clean(what, blob)

    def all(self, begin: str) -> bytes:
        return b"\n".join(blob for what, blob in self.blobs.items() if what.startswith(begin))


def _values(ledger: Path) -> Iterator[bytes]:
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    try:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f"SELECT * FROM {table}"):
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)
    finally:
        connection.close()


def _below(parent: int) -> list[int]:
    """The children of a process."""
    lists = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for path in lists for pid in path.read_text().split()]


def configure(rig: Rig, node: Node) -> None:
    ws = node.url.replace("http://", "ws://").replace(f":{node.port}/", f":{rig.net.ws_url.rpartition(':')[2]}/")
    (rig.hook_folder / "telling.py").write_text(HOOK)
    api = f"{rig.net.api_url}/{API_PATH}/x"
    rig.write_config(
        target="telling:respond",
        api_timeout_s=1,
        changes={rig.net.rpc_url: node.url, rig.net.ws_url: ws, f'"{rig.net.api_url}"': f'"{api}"'},
    )


@pytest.fixture
def _log_as_before() -> Iterator[None]:
    """A command sets up the log of the whole process, and here its stderr is soon closed."""
    yield
    logger.remove()
    logger.configure(patcher=lambda _: None)


@pytest.mark.usefixtures("_log_as_before")
async def test_no_secret_comes_out_anywhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_rig(tmp_path, mining=0.15, password=PASSWORD) as rig, echoing_node(rig.net.rpc_url) as node:
        configure(rig, node)
        collector = Collector(rig, capfd, monkeypatch)
        await _a_day_of_trouble(rig, node, collector)
        await _every_command(rig, node, collector)
        collector.assert_clean()
        # It was all there to be found.
        assert collector.all("the ledger's values").count(API_MARK.encode()) > 5
        assert collector.all("the log").count(API_MARK.encode()) > 5
        assert collector.all("the log").count(NODE_MARK.encode()) >= 2
        assert HOOK_MARK.encode() in collector.all("the log")
        assert HOOK_MARK.encode() in collector.all("the ledger's values")
        assert NODE_MARK.encode() in collector.all("`watcher check")
        assert b"rpc.node_down" in collector.all("`watcher check")
        assert NODE_MARK.encode() in collector.all("`watcher prove")
        assert API_MARK.encode() in collector.all("`watcher check")
        assert API_MARK.encode() in collector.all("`watcher tasks show")
        assert b"STATUS=" in collector.all("notices")


async def _a_day_of_trouble(rig: Rig, node: Node, collector: Collector) -> None:
    """Two daemons, one logging text and one JSON, both all they can, while everything around them fails."""
    for log_format in ("text", "json"):
        node.mode = "500"
        daemon = await rig.start(ready=False, own_interpreter=True, WATCHER_LOG__FORMAT=log_format)
        await _until_logged(rig, daemon, "daemon.waiting", 1)
        node.mode = "forward"
        rig.net.hosted.faults.add(*API_FAULTS)
        await rig.create(14)
        await rig.until(lambda: not rig.net.hosted.faults.active, "every fault was met", timeout_s=40)
        if log_format == "text":
            await rig.until(lambda: "final" in rig.states().values(), "something was answered all the same")
        for mode in ("error in JSON", "html", "500", "redirect"):
            await _turn_on_us(rig, daemon, node, mode)
        collector.processes(daemon)
        collector.files(f"while the {log_format} daemon runs")
        assert await daemon.stop() == 0
        collector.blobs[f"the log as {log_format}"] = daemon.log.encode()
        collector.blobs[f"notices of the {log_format} daemon"] = "\n".join(daemon.notices()).encode()
    collector.files("at the end")
    node.mode = "forward"


async def _turn_on_us(rig: Rig, daemon: Daemon, node: Node, mode: str) -> None:
    """The node turns on the daemon for as long as it takes to be noticed."""
    before = daemon.log.count("rpc.node_down")
    node.mode = mode
    await _until_logged(rig, daemon, "rpc.node_down", before + 1)
    if mode != "redirect":  # after that one it is left alone for a minute
        before = daemon.log.count("rpc.node_up")
        node.mode = "forward"
        await _until_logged(rig, daemon, "rpc.node_up", before + 1)


async def _until_logged(rig: Rig, daemon: Daemon, text: str, times: int) -> None:
    await rig.until(lambda: daemon.log.count(text) >= times, f"the daemon says {text!r} {times} times")


async def _every_command(rig: Rig, node: Node, collector: Collector) -> None:
    answered = next(index for index, state in rig.states().items() if state == "final")
    await collector.commands(
        "in good order",
        "check", "check --json", "prove", "prove --json", "tasks list", "tasks list --json", f"tasks show {answered}",
        *(f"tasks show {index} --json" for index in range(5)), "tasks show 999", "tasks retry 0", "tasks skip 0",
        "hook try 0", "hook try 4 --json", "db check", "db upgrade", f"db backup {rig.folder}/copy.db",
    )  # fmt: skip
    for mode in ("500", "error in JSON", "html", "redirect"):
        node.mode = mode
        await collector.commands(f"while the node says {mode}", "check", "prove", "check --json")
    node.mode = "forward"
    for fault in (*API_FAULTS, Fault(FaultKind.STATUS, status=401, text=api_echo())):
        rig.net.hosted.faults.add(replace(fault, times=None, after=False))
        await collector.commands(f"while the API says {fault.kind} {fault.status}", "check --json")
        rig.net.hosted.faults.clear()
    good = rig.config.read_text()
    for name, wrong in _wrong_settings(good).items():
        rig.config.write_text(wrong)
        await collector.commands(f"with {name}", "check", "run")
    rig.config.write_text(good)
    # One as a process of its own: what is written at its very end is caught too.
    done = await rig.command("check")
    collector.blobs["`watcher check` as a process"] = (done.out + done.err).encode()
    collector.files("after the commands")


def _wrong_settings(good: str) -> Mapping[str, str]:
    return {
        "a missing quote": good.replace(f'{API_PATH}/x"', f"{API_PATH}/x"),
        "the URL as a number's value": good.replace(
            "chain_id = 31337", f'chain_id = "http://u:{PASSWORD[:6]}{NODE_KEY}@h"'
        ),
        "the password in the file": good.replace("[operator]", f"[operator]\npassword = {json.dumps(PASSWORD)}"),
        "URLs for names": good.replace("[operator]", f'[operator]\n"https://u:{PASSWORD[:6]}@h/{NODE_KEY}" = 1')
        + f'\n["https://u@h/{NODE_KEY}"]\n"x" = "{API_PATH}"\n',
    }


NOSY = """
import os
from watcher import Task

def respond(task: Task) -> bytes:
    pids, pid = [], os.getppid()
    while pid > 1:
        pids.append(pid)
        with open(f"/proc/{pid}/stat") as stat:
            pid = int(stat.read().rpartition(")")[2].split()[1])
    opened = []
    for path in [f"/proc/{pid}/environ" for pid in pids] + PATHS:
        try:
            with open(path, "rb") as one:
                opened += [path] if one.read(1) else []
        except OSError:
            pass
    print("opened", opened, "of", len(pids))
    return task.message
"""


@pytest.mark.skipif(syscalls.landlock_abi() < syscalls.LEAST_ABI, reason="this kernel has no Landlock of version 2")
async def test_a_hook_of_the_daemon_reaches_no_secret(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig:
        credentials = rig.folder / "credentials"
        credentials.mkdir()
        (credentials / "operator__password").write_text(rig.environment.pop("WATCHER_OPERATOR__PASSWORD"))
        paths = [str(path) for path in (rig.config, rig.ledger, credentials / "operator__password")]
        paths.append(f"{rig.ledger}-wal")
        (rig.hook_folder / "nosy.py").write_text(NOSY.replace("PATHS", repr(paths)))
        rig.write_config(target="nosy:respond")
        daemon = await rig.start(CREDENTIALS_DIRECTORY=str(credentials))
        await rig.create(1)
        await rig.net.mine(2)
        await rig.until(lambda: 'line="opened ' in daemon.log, "the hook has tried")
        (line,) = re.findall(r'line="opened (.*) of (\d+)"', daemon.log)
        assert line[0] == "[]" and int(line[1]) >= 2
        assert await daemon.stop() == 0
