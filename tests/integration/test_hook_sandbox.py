"""What a hook can reach in a real worker: everything but credentials, configuration, ledger and other processes.

Where this kernel has no Landlock these tests are skipped; `tests/unit/hook/test_sandbox.py` tests the rules everywhere.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from watcher.errors import AttemptFailed, FixConfiguration
from watcher.hook import syscalls
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.task import Response
from watcher.testing import make_task

pytestmark = pytest.mark.skipif(
    syscalls.landlock_abi() < syscalls.LEAST_ABI, reason="this kernel has no Landlock of version 2 or later"
)
needs_signal_scope = pytest.mark.skipif(syscalls.landlock_abi() < 6, reason="Landlock scopes signals from version 6")

HOOK = """
import ctypes, os, shutil, signal, sqlite3, subprocess, sys, tempfile
from pathlib import Path

def respond(task):
    name, _, rest = task.message.decode().partition(" ")
    return str(globals()[name](*rest.split())).encode()

def read(path): return Path(path).read_text()
def read_in_child(path):
    done = subprocess.run(["cat", path], capture_output=True, text=True)
    return done.stdout + done.stderr
def write(path): return Path(path).write_text("changed")
def remove(path): return os.unlink(path)
def names(path): return sorted(os.listdir(path))
def rename_and_read(path, other):
    os.rename(path, other)
    return Path(other).read_text()
def link_and_read(path, other):
    os.link(path, other)
    return Path(other).read_text()
def through_symlink(path, other):
    os.symlink(path, other)
    return Path(other).read_text()
def keeps(folder):
    place = Path(folder, "cache")
    place.mkdir(exist_ok=True)
    connection = sqlite3.connect(place / "cache.db")
    connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
    connection.close()
    (place / "a").write_text("kept")
    os.replace(place / "a", place / "b")
    os.makedirs(place / "deep", exist_ok=True)
    os.replace(place / "b", place / "deep" / "c")
    return (place / "deep" / "c").read_text()
def temporary():
    with tempfile.NamedTemporaryFile("w+") as one, tempfile.TemporaryDirectory() as two:
        one.write("x"); Path(two, "y").write_text("y"); one.seek(0)
        return one.read() + Path(two, "y").read_text()
def system():
    import ssl, zoneinfo
    ssl.create_default_context()
    return subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True).stdout
def shared():
    from multiprocessing import shared_memory
    one = shared_memory.SharedMemory(create=True, size=10); one.close(); one.unlink()
    return Path("/dev/urandom").open("rb").read(1) and "shared"
def opened(pid): return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
def pid(): return os.getpid()
def attach(pid): return ctypes.CDLL(None, use_errno=True).ptrace(16, int(pid), 0, 0)
def stop(pid): return os.kill(int(pid), signal.SIGCONT)
"""

LEDGER = ("", "-wal", ".lock", ".before-0002-x")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One folder with everything in it, as somebody has it who tries things out."""
    (tmp_path / "hook.py").write_text(HOOK)
    (tmp_path / "watcher.toml").write_text("secret-config")
    for suffix in LEDGER:
        (tmp_path / f"watcher.db{suffix}").write_text("secret-ledger")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "operator__password").write_text("secret-password")
    (tmp_path / "prices.json").write_text("prices")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "model").write_text("model")
    return tmp_path


def plan(folder: Path, mode: str = "auto") -> PoolPlan:
    hidden = tuple(str(folder / name) for name in ("watcher.toml", "watcher.db", "credentials"))
    return PoolPlan(workers=1, timeout_s=20, landlock=mode, hidden=hidden)


@pytest.fixture
async def pool(folder: Path) -> AsyncIterator[WorkerPool]:
    async with WorkerPool("hook:respond", folder, plan(folder)) as opened:
        assert opened.exposed == ""
        yield opened


async def answer(pool: WorkerPool, message: str) -> str:
    response = await pool.run(make_task(message.encode()))
    assert isinstance(response, Response)
    return response.resp_message.decode()


async def outcome(pool: WorkerPool, message: str) -> str:
    """The answer, or why there is none."""
    try:
        return await answer(pool, message)
    except AttemptFailed as failure:
        return str(failure)


HIDDEN = ["watcher.toml", "watcher.db", "watcher.db-wal", "watcher.db.before-0002-x", "credentials/operator__password"]


@pytest.mark.parametrize("name", HIDDEN)
async def test_a_hook_cannot_touch_a_hidden_file(folder: Path, pool: WorkerPool, name: str) -> None:
    path, other = folder / name, folder / "data" / "copy"
    before = path.read_text()
    for message in (
        f"read {path}",
        f"read_in_child {path}",
        f"write {path}",
        f"remove {path}",
        f"rename_and_read {path} {other}",
        f"link_and_read {path} {other}",
        f"through_symlink {path} {other}-link",
        f"read {folder}/data/../{name}",
        f"read /proc/self/root{path}",
    ):
        reply = await outcome(pool, message)
        assert "secret" not in reply and ("denied" in reply or "cross-device" in reply), (message, reply)
    assert path.read_text() == before


async def test_a_refusal_says_where_to_read_on(folder: Path, pool: WorkerPool) -> None:
    for message in (f"read {folder}/watcher.db", f"write {folder}/new-file"):
        assert "docs/hooks.md, What a hook can reach" in await outcome(pool, message)


async def test_other_names_of_a_hidden_file_are_hidden(folder: Path) -> None:
    os.link(folder / "watcher.toml", folder / "hard")
    (folder / "watcher.db").rename(folder / "data" / "real.db")
    (folder / "watcher.db").symlink_to(folder / "data" / "real.db")
    async with WorkerPool("hook:respond", folder, plan(folder)) as pool:
        for name in ("hard", "watcher.db", "data/real.db"):
            assert "secret" not in await outcome(pool, f"read {folder / name}")
        assert await answer(pool, f"read {folder}/data/model") == "model"


async def test_a_file_that_appears_beside_the_ledger_is_hidden(folder: Path) -> None:
    for suffix in LEDGER:
        (folder / f"watcher.db{suffix}").unlink()
    async with WorkerPool("hook:respond", folder, plan(folder)) as pool:
        (folder / "watcher.db").write_text("secret-ledger")
        (folder / "watcher.db-wal").write_text("secret-ledger")
        for name in ("watcher.db", "watcher.db-wal"):
            assert "secret" not in await outcome(pool, f"read {folder / name}")


async def test_a_hook_keeps_what_it_needs(folder: Path, pool: WorkerPool) -> None:
    assert await answer(pool, f"read {folder}/prices.json") == "prices"
    assert await answer(pool, f"write {folder}/prices.json") == "7"
    assert await answer(pool, f"read {folder}/data/model") == "model"
    assert await answer(pool, f"keeps {folder}/data") == "kept"
    assert "watcher.toml" in await answer(pool, f"names {folder}"), "the import of modules lists the folder"
    assert await answer(pool, "temporary") == "xy"
    assert await answer(pool, "system") == "42\n"
    assert await answer(pool, "shared") == "shared"


def made(folder: Path) -> list[Path]:
    return list(folder.glob("watcher-hook-*"))


async def test_temporary_files_are_removed_with_the_pool(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    async with WorkerPool("hook:respond", folder, plan(folder)) as pool:
        assert await answer(pool, "temporary") == "xy"
        assert len(made(folder)) == 1
    assert made(folder) == []


async def test_a_hook_cannot_list_the_credentials(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    app_dir = folder / "data"
    (app_dir / "hook.py").write_text(HOOK)
    async with WorkerPool("hook:respond", app_dir, plan(folder)) as pool:
        assert "operator__password" not in await outcome(pool, f"names {folder}/credentials")
        assert "model" in await answer(pool, f"names {app_dir}")


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a secret in its environment, as the daemon and whoever started it have."""
    with subprocess.Popen(["sleep", "600"], env={**os.environ, "TOKEN": "secret-token"}) as process:
        yield process
        process.kill()


async def test_a_hook_cannot_look_into_other_processes(pool: WorkerPool, other: subprocess.Popen[bytes]) -> None:
    for pid in (other.pid, os.getpid(), os.getppid()):
        for name in ("environ", "mem", "maps"):
            message = await outcome(pool, f"read /proc/{pid}/{name}")
            assert "secret" not in message and ("denied" in message or "not permitted" in message), message
        assert "denied" in await outcome(pool, f"opened {pid}")
        assert await answer(pool, f"attach {pid}") == "-1"


@needs_signal_scope
async def test_a_hook_cannot_signal_other_processes(pool: WorkerPool, other: subprocess.Popen[bytes]) -> None:
    for pid in (other.pid, os.getpid()):
        assert "PermissionError" in await outcome(pool, f"stop {pid}")


async def test_one_worker_cannot_look_into_another(folder: Path) -> None:
    async with (
        WorkerPool("hook:respond", folder, plan(folder)) as first,
        WorkerPool("hook:respond", folder, plan(folder)) as second,
    ):
        pid = int(await answer(second, "pid"))
        assert await answer(first, f"attach {pid}") == "-1"
        assert "denied" in await outcome(first, f"opened {pid}")


async def test_nothing_is_hidden_when_it_is_off(folder: Path) -> None:
    async with WorkerPool("hook:respond", folder, plan(folder, "off")) as pool:
        assert pool.exposed == 'hook.landlock = "off"'
        assert await answer(pool, f"read {folder}/watcher.toml") == "secret-config"


async def test_hidden_folder_above_the_hook_is_reported(folder: Path) -> None:
    hidden = PoolPlan(workers=1, hidden=(str(folder), str(folder / "watcher.db")))
    async with WorkerPool("hook:respond", folder, hidden) as pool:
        assert "the hook or the program lies below" in pool.exposed
        assert "secret" not in await outcome(pool, f"read {folder}/watcher.db"), "the rest is hidden all the same"
    required = PoolPlan(workers=1, landlock="required", hidden=(str(folder),))
    with pytest.raises(FixConfiguration, match=r'hook\.landlock = "required": the hook or the program'):
        await WorkerPool("hook:respond", folder, required).__aenter__()


@pytest.mark.parametrize("command", ["hook try", "check"])
def test_a_command_protects_itself_before_the_worker(folder: Path, command: str) -> None:
    """The import, the earliest moment of a hook, already finds everything closed."""
    (folder / "early.py").write_text(
        "import json, os\n"
        "def closed(path):\n"
        "    try: return not open(path, 'rb').read()\n"
        "    except OSError: return True\n"
        "pids, pid = [], os.getppid()\n"
        "while pid > 1:\n"
        "    pids.append(pid)\n"
        "    pid = int(open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[1])\n"
        f"paths = [f'/proc/{{pid}}/environ' for pid in pids] + {[str(folder / name) for name in HIDDEN]}\n"
        "paths.append('CONFIG')\n"
        "opened = [path for path in paths if not closed(path)]\n"
        "raise ValueError(json.dumps(opened))\n"
    )
    config = folder / "watcher.toml"
    config.write_text(
        "[chain]\nrpc_urls = ['http://127.0.0.1:9']\nchain_id = 31337\n"
        f"[task_manager]\naddress = '0x{'11' * 20}'\nstart_block = 0\n"
        f"[hook]\ntarget = 'early:respond'\napp_dir = '{folder}'\n"
        f"[operator]\nurl = 'http://127.0.0.1:9'\n[ledger]\nurl = 'sqlite:///{folder}/watcher.db'\n"
    )
    arguments = {"hook try": ["hook", "try", "--message", "0x00"], "check": ["check", "--json"]}[command]
    done = subprocess.run(
        [sys.executable, "-m", "watcher", *arguments, "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        env={
            "PATH": os.environ["PATH"],
            "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
            "WATCHER_CHAIN__REQUEST_TIMEOUT_S": "1",
        },
        cwd=Path(__file__).parents[2],
    )
    assert "ValueError: []" in done.stdout + done.stderr, done.stdout + done.stderr


def test_the_rules_hold_for_every_thread_and_child(folder: Path) -> None:
    """The descendants of a worker are as restricted as the worker."""

    async def run() -> str:
        async with WorkerPool("hook:respond", folder, plan(folder)) as pool:
            return await outcome(pool, f"read_in_child {folder}/credentials/operator__password")

    assert "secret" not in json.dumps(asyncio.run(run()))
