"""Workers that have done their share, and the next ones, which their supervisors fork: nothing passes between them.

A hook's exit handler that opens a pipe for reading holds a renewal up until the test opens it for writing.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import watcher
from tests.integration.test_hook_crew import ended, open_fds, reaped, until
from watcher.errors import AttemptFailed, TryLater
from watcher.hook import process, syscalls
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.hook.room import Room
from watcher.task import Response, Task
from watcher.testing import make_task

HOOK = r"""
import atexit, ctypes, json, os, resource, signal, socket, subprocess, sys, tempfile, threading, time
from pathlib import Path

HERE = Path(__file__).parent
if (HERE / "import_raises").exists(): raise OSError("no mount")
if (HERE / "import_hangs").exists(): time.sleep(600)
if (HERE / "import_exits").exists(): os._exit(0)

RUNS = []

def respond(task):
    name, _, rest = task.message.decode().partition(" ")
    RUNS.append(name)
    return str(globals()[name](*rest.split())).encode()

def pid(): return os.getpid()
def parent(): return os.getppid()
def runs(): return len(RUNS)
def exits_0(): os._exit(0)
def reads(path): return Path(path).read_text()
def takes(mib): return len(bytearray(int(mib) << 20))
def nice(): return os.nice(0)
def dumpable(): return ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)

def at_exit(name, *rest): atexit.register(globals()[name], *rest); return os.getpid()
def opens(gate): open(gate).read()
def hangs(): time.sleep(600)
def crashes(): os._exit(3)
def kills_supervisor(): os.kill(os.getppid(), signal.SIGKILL)
def removes(name): (HERE / name).unlink()
def replaces(name, old, new):
    text = (HERE / name).read_text()
    (HERE / name).write_text(text.replace(old, new))
def says(text): print(text, end="")
def link(fd):
    try: return os.readlink(f"/proc/self/fd/{fd}")
    except OSError: return ""
def links(): return {fd: link(fd) for fd in map(int, os.listdir("/proc/self/fd"))}
def breaks_channel():
    channel = next(fd for fd, name in links().items() if "socket" in name)
    os.write(channel, (1000).to_bytes(4, "big") + b'{"version":')

def leaves_child():
    '''A daemon that ignores signals, in a session of its own.'''
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.readline()
    return child.pid

def state():
    mask = os.umask(0); os.umask(mask)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = ("SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "CapEff", "Cpus_allowed", "Threads")
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT")]
    return json.dumps([
        os.getcwd(), mask, os.nice(0), limits, [status[name] for name in names],
        Path("/proc/self/oom_score_adj").read_text(), dict(os.environ), sys.path, "left" in sys.modules,
        tempfile.gettempdir(), socket.getdefaulttimeout(), sys.getrecursionlimit(), sys.getswitchinterval(),
        sorted(name.partition(":")[0] for name in links().values()), os.getsid(0) == os.getpgrp() == os.getpid(),
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
    ])

def spoils():
    '''Change all that a process can change of itself.'''
    os.chdir("/"); os.umask(0o077); os.nice(5); os.environ["LEFT"] = "behind"; os.environ.pop("PATH")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD): signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, 60)); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    sys.path.append("/left"); sys.modules["left"] = sys; sys.setrecursionlimit(500); sys.setswitchinterval(1)
    socket.setdefaulttimeout(1); tempfile.tempdir = "/left"
    for _ in range(5): os.dup(0)
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return "spoilt"
"""


class Lines:
    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []

    def __call__(self, task: Task | None, line: str) -> None:
        self.seen.append((task.task_index if task else -1, line))


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "hook.py").write_text(HOOK)
    os.mkfifo(tmp_path / "gate")
    return tmp_path


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give exit handlers all the time that a test takes."""
    monkeypatch.setattr(process, "_EXIT_GRACE_S", 60.0)


@contextlib.asynccontextmanager
async def opened(app_dir: Path, lines: Lines | None = None, **plan: object) -> AsyncIterator[WorkerPool]:
    """Open a pool of one worker, which is renewed after two runs."""
    values = PoolPlan(**{"workers": 1, "timeout_s": 20, "tasks_per_worker": 2, **plan})  # type: ignore[arg-type]
    async with WorkerPool("hook:respond", app_dir, values, log=lines) as pool:
        await until(lambda: pool.alive == values.workers)
        yield pool


async def answer(pool: WorkerPool, message: str, index: int = 0) -> str:
    response = await pool.run(make_task(message.encode(), task_index=index))
    assert isinstance(response, Response)
    return response.resp_message.decode()


async def opened_gate(app_dir: Path) -> None:
    """Return once the exit handler that waits for the gate has gone on."""
    await asyncio.to_thread((app_dir / "gate").write_text, "")


async def test_the_supervisor_forks_the_next_worker_which_loads_the_hook_anew(app_dir: Path) -> None:
    async with opened(app_dir) as pool:
        supervisors = pool.supervisors
        seen = [(await answer(pool, "pid"), await answer(pool, "runs")) for _ in range(3)]
        assert [await answer(pool, "parent")] == [str(pid) for pid in pool.supervisors] == list(map(str, supervisors))
    assert len({pid for pid, _ in seen}) == 3
    assert {runs for _, runs in seen} == {"2"}


async def test_nothing_a_worker_changes_reaches_the_next(app_dir: Path) -> None:
    async with opened(app_dir) as pool:
        first = json.loads(await answer(pool, "state"))
        assert await answer(pool, "spoils") == "spoilt"
        assert json.loads(await answer(pool, "state")) == first


async def test_no_process_of_a_worker_is_left_when_the_next_begins(app_dir: Path) -> None:
    async with opened(app_dir) as pool:
        child, _ = int(await answer(pool, "leaves_child")), await answer(pool, "pid")
        await answer(pool, "pid")
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


async def test_half_a_message_of_a_worker_is_not_the_beginning_of_the_next(app_dir: Path) -> None:
    async with opened(app_dir) as pool:
        supervisors = pool.supervisors
        await answer(pool, "at_exit breaks_channel")
        await answer(pool, "pid")
        assert [await answer(pool, "runs") for _ in range(2)] == ["1", "2"]
        assert pool.supervisors == supervisors


async def test_exit_handlers_run_and_their_output_is_no_tasks(app_dir: Path) -> None:
    lines = Lines()
    async with opened(app_dir, lines) as pool:
        await answer(pool, "at_exit says good-bye", index=1)
        await answer(pool, "pid", index=2)
        await answer(pool, "says hello", index=3)
    assert lines.seen == [(-1, "good-bye"), (3, "hello")]


@pytest.mark.parametrize("handler", ["hangs", "crashes", "kills_supervisor"])
async def test_worker_that_does_not_end_as_asked_gets_another_process(
    app_dir: Path, handler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if handler == "hangs":
        monkeypatch.setattr(process, "_EXIT_GRACE_S", 0.1)
    async with opened(app_dir, landlock="off") as pool:
        before, supervisors = await answer(pool, f"at_exit {handler}"), pool.supervisors
        await answer(pool, "pid")
        assert await answer(pool, "pid") != before
        assert pool.supervisors != supervisors and all(map(reaped, supervisors))


async def test_worker_that_ends_unasked_is_not_renewed(app_dir: Path) -> None:
    async with opened(app_dir) as pool:
        supervisors = pool.supervisors
        with pytest.raises(AttemptFailed, match="ended with exit code 0"):
            await answer(pool, "exits_0")
        assert await answer(pool, "runs") == "1"
        assert pool.supervisors != supervisors


@pytest.mark.parametrize("fault", ["import_raises", "import_hangs", "import_exits"])
async def test_tasks_wait_when_the_next_worker_cannot_load_the_hook(app_dir: Path, fault: str) -> None:
    async with opened(app_dir, start_timeout_s=3) as pool:
        version = pool.version
        await answer(pool, "pid")
        (app_dir / fault).touch()
        await answer(pool, "pid")
        with pytest.raises(TryLater):
            await answer(pool, "pid")
        (app_dir / fault).unlink()
        await until(lambda: pool.alive == 1)
        assert await answer(pool, "runs") == "1" and pool.version == version


async def test_worker_does_not_answer_when_it_was_renewed_with_other_code(app_dir: Path) -> None:
    async with opened(app_dir) as pool:
        await answer(pool, "at_exit replaces hook.py len(RUNS) 1000")
        await answer(pool, "pid")
        with pytest.raises(TryLater, match="code has changed"):
            await answer(pool, "runs")
        (app_dir / "hook.py").write_text(HOOK)
        await until(lambda: pool.alive == 1)
        assert await answer(pool, "runs") == "1"


@pytest.mark.usefixtures("patient")
async def test_reload_during_a_renewal_leaves_no_worker_with_old_code(app_dir: Path) -> None:
    async with opened(app_dir) as pool:
        supervisors = pool.supervisors
        await answer(pool, f"at_exit opens {app_dir / 'gate'}")
        await answer(pool, "pid")
        (app_dir / "hook.py").write_text(HOOK.replace("len(RUNS)", "1000"))
        _, version = await pool.reload()
        waiting = asyncio.create_task(pool.run(make_task(b"runs")))
        await opened_gate(app_dir)
        answered = await waiting
        assert isinstance(answered, Response)
        assert (answered.resp_message, answered.hook_version) == (b"1000", version)
        assert all([await ended(supervisor) for supervisor in supervisors])


@pytest.mark.usefixtures("patient")
async def test_pool_closes_while_a_worker_is_renewed(app_dir: Path) -> None:
    async def once() -> list[int]:
        async with opened(app_dir) as pool:
            pids = [*pool.supervisors, int(await answer(pool, f"at_exit opens {app_dir / 'gate'}"))]
            await answer(pool, "pid")
            waiting = asyncio.create_task(pool.run(make_task(b"pid")))
            writer = await asyncio.to_thread((app_dir / "gate").open, "w")  # opens with the exit handler's end
        with writer, pytest.raises(TryLater, match="stopped"):
            await waiting
        return pids

    await once()
    before = open_fds()
    assert all(map(reaped, await once()))
    assert open_fds() == before


@pytest.mark.usefixtures("patient")
async def test_other_workers_take_tasks_while_one_is_renewed(app_dir: Path) -> None:
    async with opened(app_dir, workers=2, tasks_per_worker=3) as pool:
        first = await answer(pool, f"at_exit opens {app_dir / 'gate'}")
        assert [await answer(pool, "pid") for _ in range(2)] == [first] * 2
        assert await answer(pool, "pid") != first
        await opened_gate(app_dir)


@pytest.mark.usefixtures("patient")
async def test_a_renewal_takes_no_room_from_other_pools(app_dir: Path) -> None:
    room = Room(1, 2, 20)
    async with opened(app_dir, room=room) as pool, opened(app_dir, room=room) as other:
        await answer(pool, f"at_exit opens {app_dir / 'gate'}")
        await answer(pool, "pid")
        assert await answer(other, "runs") == "1"
        await opened_gate(app_dir)


async def test_a_renewed_worker_keeps_the_memory_limit(app_dir: Path) -> None:
    async with opened(app_dir, memory_mb=200, tasks_per_worker=1) as pool:
        for _ in range(3):
            with pytest.raises(AttemptFailed, match="MemoryError"):
                await answer(pool, "takes 400")
            assert await answer(pool, "takes 50") == str(50 << 20)


async def test_memory_of_a_worker_is_open_to_its_user(app_dir: Path) -> None:
    async with opened(app_dir, tasks_per_worker=1) as pool:
        assert [await answer(pool, "dumpable") for _ in range(2)] == ["1", "1"]


async def test_a_renewed_worker_has_the_low_priority_of_its_own_only(app_dir: Path) -> None:
    lines = Lines()
    async with opened(app_dir, lines, background=True) as pool:
        for _ in range(5):
            assert await answer(pool, "nice") == "19"
            await answer(pool, "says nothing")
        assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in pool.supervisors] == [os.nice(0)]
    assert not lines.seen


@pytest.mark.skipif(syscalls.landlock_abi() < syscalls.LEAST_ABI, reason="this kernel has no Landlock of version 2")
async def test_a_renewed_worker_is_in_the_sandbox(app_dir: Path) -> None:
    secret = app_dir / "folder" / "secret"
    secret.parent.mkdir()
    secret.write_text("secret")
    async with opened(app_dir, hidden=(str(secret),)) as pool:
        supervisors = pool.supervisors
        for _ in range(5):
            with pytest.raises(AttemptFailed, match="PermissionError"):
                await answer(pool, f"reads {secret}")
        assert pool.supervisors == supervisors


DAEMON = """
import asyncio, sys
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.testing import make_task

async def main(app_dir):
    async with WorkerPool("hook:respond", app_dir, PoolPlan(workers=1, tasks_per_worker=3)) as pool:
        pids = [(await pool.run(make_task(b"pid"))).resp_message.decode() for _ in range(3)]
        for message in (b"pid", b"leaves_child"):
            pids.append((await pool.run(make_task(message))).resp_message.decode())
        print(*pids[2:], *pool.supervisors, flush=True)
        await asyncio.sleep(600)

asyncio.run(main(sys.argv[1]))
"""


def start_daemon(app_dir: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(watcher.__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-c", DAEMON, str(app_dir)], stdout=subprocess.PIPE, env=environment)


@pytest.mark.parametrize("stopped", [False, True], ids=["", "supervisor_stopped"])
async def test_no_renewed_worker_outlives_the_daemon(app_dir: Path, stopped: bool) -> None:
    with start_daemon(app_dir) as daemon:
        assert daemon.stdout is not None
        line = await asyncio.to_thread(daemon.stdout.readline)
        before, worker, child, supervisor = map(int, line.split())
        assert before != worker
        if stopped:
            os.kill(supervisor, signal.SIGSTOP)
        daemon.kill()
    assert await ended(worker)
    if stopped:
        os.kill(supervisor, signal.SIGCONT)
    assert await ended(child) and await ended(supervisor)
