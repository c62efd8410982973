"""What a hook leaves behind, takes and writes, in real workers: it reaches no other task and outlives no worker."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from loguru import logger

import watcher
from tests.integration.test_hook_crew import ended
from watcher.errors import AttemptFailed, FixConfiguration
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.task import Response, Task
from watcher.testing import make_task

HOOK = r'''
import ctypes, json, os, signal, socket, subprocess, sys, threading, time

def respond(task):
    name, _, rest = task.message.decode().partition(" ")
    return globals()[name](*rest.split())

def pid(): return str(os.getpid()).encode()
def parent(): return str(os.getppid()).encode()
def echo(word): return word.encode()

# -- children that get away from the process group
def detached(rest="return"):
    """A double fork with a session of its own, as a daemon makes itself."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(writer, str(os.getpid()).encode())
            os.close(writer)
            while True: time.sleep(60)
        os._exit(0)
    os.close(writer)
    os.wait()
    pid = os.read(reader, 20)
    if rest == "crash": print("left", pid.decode(), flush=True); os.kill(os.getpid(), signal.SIGSEGV)
    if rest == "hang": print("left", pid.decode(), flush=True); time.sleep(600)
    return pid
def by_setsid_program():
    script = "setsid sleep 600 & echo $!; exec sleep 600"
    child = subprocess.Popen(["setsid", "sh", "-c", script], stdout=subprocess.PIPE)
    inner = child.stdout.readline().split()[0].decode()
    return f"{child.pid} {inner}".encode()
def stopped_child():
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    child.send_signal(signal.SIGSTOP)
    return str(child.pid).encode()
def kill_parent(): os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)
def term_parent(): os.kill(os.getppid(), signal.SIGTERM); return b"sent"

# -- writing into the channel
def channel():
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"): return fd
        except OSError: pass
def frame(**fields):
    body = json.dumps(fields).encode()
    return len(body).to_bytes(4, "big") + body
def forge_next(*runs):
    """Replies for the runs to come, written ahead."""
    for run in runs: os.write(channel(), frame(run=int(run), answer="f0"))
    return b"own"
def forge_later():
    """The same from a thread, once this task is answered."""
    fd = channel()
    def write():
        time.sleep(0.05)
        for run in range(5): os.write(fd, frame(run=run, answer="f0"))
    threading.Thread(target=write, daemon=True).start()
    return b"own"
def forge_from_child():
    fd = os.dup(channel())
    if os.fork() == 0:
        for run in range(5): os.write(fd, frame(run=run, answer="f0"))
        os._exit(0)
    os.wait()
    return b"own"
def raw_fork():
    """A fork the interpreter does not see: two processes return from here."""
    child = ctypes.CDLL(None).fork()
    if child == 0: return b"child"
    os.waitpid(child, 0)
    return b"own"
def stdout_is_channel(): os.dup2(channel(), 1); print("{}"); return b"own"

# -- memory
KEPT = []
def takes(mib): KEPT.append(bytearray(int(mib) << 20)); return b"took"
def grows():
    while True: KEPT.append(list(range(100_000)))
def child_takes(mib):
    code = f"x = bytearray({mib} << 20)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1].encode() if done.returncode else b"took"
def oom_score(): return open("/proc/self/oom_score_adj").read().strip().encode()
'''


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "hook.py").write_text(HOOK)
    return tmp_path


@contextlib.asynccontextmanager
async def crewed(app_dir: Path, lines: list[str] | None = None, **plan: int | float) -> AsyncIterator[WorkerPool]:
    def log(_task: Task | None, line: str) -> None:
        if lines is not None:
            lines.append(line)

    resolved = PoolPlan(**{"workers": 1, "timeout_s": 20, **plan})  # type: ignore[arg-type]
    async with WorkerPool("hook:respond", app_dir, resolved, log=log) as pool:
        yield pool


async def answer(pool: WorkerPool, message: str) -> bytes:
    response = await pool.run(make_task(message.encode()))
    assert isinstance(response, Response)
    return response.resp_message


async def failure(pool: WorkerPool, message: str) -> str:
    with pytest.raises(AttemptFailed) as caught:
        await pool.run(make_task(message.encode()))
    return str(caught.value)


# -- children --


@pytest.mark.parametrize(("how", "message"), [("crash", "SIGSEGV"), ("hang", "longer than")])
async def test_a_detached_child_dies_when_its_worker_fails(app_dir: Path, how: str, message: str) -> None:
    lines: list[str] = []
    async with crewed(app_dir, lines, timeout_s=2) as pool:
        assert message in await failure(pool, f"detached {how}")
        (pid,) = [int(line.split()[1]) for line in lines if line.startswith("left ")]
        assert await ended(pid)
        assert await answer(pool, "echo next") == b"next"


@pytest.mark.parametrize("message", ["detached", "by_setsid_program", "stopped_child"])
async def test_child_in_its_own_session_dies_when_the_worker_is_stopped(app_dir: Path, message: str) -> None:
    async with crewed(app_dir, tasks_per_worker=2) as pool:
        pids = [int(pid) for pid in (await answer(pool, message)).split()]
        for pid in pids:
            os.kill(pid, 0)
        await answer(pool, "echo last")
        assert all([await ended(pid) for pid in pids])


async def test_a_hook_that_kills_its_supervisor_costs_one_attempt(app_dir: Path) -> None:
    """Where Landlock keeps signals in, it is told so; elsewhere the worker ends with its supervisor."""
    async with crewed(app_dir, landlock="off") as pool:  # type: ignore[arg-type]
        worker = int(await answer(pool, "pid"))
        assert "killed by SIGKILL" in await failure(pool, "kill_parent")
        assert await ended(worker)
        assert await answer(pool, "term_parent") == b"sent"
        assert await answer(pool, "echo next") == b"next"


DAEMON = """
import asyncio, sys
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.testing import make_task

async def main(app_dir):
    async with WorkerPool("hook:respond", app_dir, PoolPlan(workers=1)) as pool:
        for message in (b"detached", b"by_setsid_program", b"pid", b"parent"):
            print((await pool.run(make_task(message))).resp_message.decode(), end=" ")
        print(flush=True)
        await asyncio.sleep(600)

asyncio.run(main(sys.argv[1]))
"""


def start_daemon(app_dir: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(watcher.__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-c", DAEMON, str(app_dir)], stdout=subprocess.PIPE, env=environment)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_nothing_outlives_the_daemon_when_it_is_killed(app_dir: Path, number: int) -> None:
    with start_daemon(app_dir) as daemon:
        assert daemon.stdout is not None
        pids = [int(pid) for pid in (await asyncio.to_thread(daemon.stdout.readline)).split()]
        assert len(pids) == 5
        daemon.send_signal(number)
    assert all([await ended(pid) for pid in pids])


# -- the channel --


@pytest.mark.parametrize("message", ["forge_later", "forge_from_child", "forge_next 2 3 4", "stdout_is_channel"])
async def test_what_a_hook_writes_is_never_the_answer_to_another_task(app_dir: Path, message: str) -> None:
    """The task itself may fail for it; those that follow have their own answers, or fail and are tried again."""
    async with crewed(app_dir) as pool:
        with contextlib.suppress(AttemptFailed):
            assert await answer(pool, message) == b"own"
        for number in range(8):
            with contextlib.suppress(AttemptFailed):
                assert await answer(pool, f"echo {number}") == str(number).encode()
            await asyncio.sleep(0.02)  # the thread of forge_later writes meanwhile
        assert await answer(pool, "echo calm") == b"calm"


async def test_worker_gets_no_task_when_its_channel_holds_bytes(app_dir: Path) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    async with crewed(app_dir) as pool:
        worker = await answer(pool, "pid")
        assert await answer(pool, "forge_later") == b"own"
        (process,) = pool._slots.workers
        async with asyncio.timeout(10):
            while process.channel.is_quiet:  # noqa: ASYNC110  until the thread has written
                await asyncio.sleep(0.01)
        assert await answer(pool, "pid") != worker, "no attempt was lost"
    logger.remove(sink)
    assert any(line.startswith("hook.channel_abused") for line in lines)


async def test_a_fork_the_interpreter_does_not_see_answers_once(app_dir: Path) -> None:
    async with crewed(app_dir) as pool:
        assert [await answer(pool, "raw_fork") for _ in range(3)] == [b"own"] * 3


# -- memory --


@pytest.mark.parametrize("message", ["takes 400", "grows"])
async def test_a_run_that_needs_too_much_memory_fails_with_the_limit(app_dir: Path, message: str) -> None:
    async with crewed(app_dir, memory_mb=200) as pool:
        worker = await answer(pool, "pid")
        assert await answer(pool, "takes 50") == b"took"
        reason = await failure(pool, message)
        assert "MemoryError" in reason and reason.endswith("hook.memory_mb = 200 is the limit")
        assert await answer(pool, "pid") != worker, "a worker whose memory is full takes no further task"
        assert await answer(pool, "takes 50") == b"took"


async def test_a_program_of_a_hook_has_the_same_limit(app_dir: Path) -> None:
    async with crewed(app_dir, memory_mb=200) as pool:
        assert await answer(pool, "child_takes 400") == b"MemoryError"
        assert await answer(pool, "child_takes 50") == b"took"


async def test_there_is_no_limit_by_default_and_the_system_ends_workers_first(app_dir: Path) -> None:
    async with crewed(app_dir) as pool:
        assert await answer(pool, "takes 400") == b"took"
        assert await answer(pool, "oom_score") == b"500"


async def test_a_limit_too_small_for_the_import_needs_a_person(app_dir: Path) -> None:
    (app_dir / "large.py").write_text("x = bytearray(400 << 20)\n")
    with pytest.raises(FixConfiguration, match=r"MemoryError.*hook\.memory_mb = 200 is the limit"):
        await WorkerPool("large:respond", app_dir, PoolPlan(workers=1, memory_mb=200)).__aenter__()
