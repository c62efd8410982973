"""Real worker processes under hostile hooks: each fault costs its own task an attempt, and nothing else anything.

The hook's module holds one function per fault; the message of a task names the one to run.
"""

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import watcher
from watcher.errors import AttemptFailed, FixConfiguration, TryLater
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.task import Later, Response, Skip, Task
from watcher.testing import make_task, run_hook

HOSTILE = r"""
import asyncio, ctypes, json, os, re, signal, socket, subprocess, sys, time
from watcher.task import Later, Skip

def respond(task):
    name, _, rest = task.message.decode().partition(" ")
    return globals()[name](rest)

async def respond_async(task):
    await asyncio.sleep(0)
    return respond(task)

class Mute(Exception):
    def __str__(self): raise KeyboardInterrupt

def pid(_): return str(os.getpid()).encode()
def tells(rest): print(rest); return b""
def echo(rest): return rest.encode()
def loop_id(_): return str(id(asyncio.get_running_loop())).encode()
def skip(_): return Skip("not ours\x1b[2J\n")
def later(_): return Later(blocks=3, seconds=1.5, reason="soon")
def raises(_): raise ValueError("bad \x1b[31mred\nline")
def raises_in_library(_): return json.loads("{")
def raises_base(_): raise BaseException("rare")
def exits(_): sys.exit(3)
def interrupts(_): raise KeyboardInterrupt
def mute(_): raise Mute
def recurses(_): return recurses(_)
def out_of_memory(_): raise MemoryError
def long_text(_): raise ValueError("x" * 10_000_000)
def text(_): return "0x00"
def nothing(_): return None
def view(_): return memoryview(b"x")
def coroutine(_): return asyncio.sleep(0)
def huge(_): return bytes(64 * 2**20)
def never(_): return Later()
def spins(_):
    while True: pass
def sleeps(_): print("begun"); time.sleep(600)
def holds_the_lock(_): print("begun"); return re.match(r"(a+)+$", "a" * 64 + "b")
def os_exit(_): print("last line", end=""); sys.stdout.flush(); os._exit(7)
def segfault(_): ctypes.string_at(0)
def killed(_): os.kill(os.getpid(), signal.SIGKILL)
def closes_fds(_): os.closerange(0, 4096); return b"x"
def swaps_fds(rest):
    os.closerange(3, 4096)
    for number in range(3, 64): os.dup2(os.open(rest, os.O_CREAT | os.O_WRONLY), number)
    return b"x"
def open_fds():
    links = {fd: f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")}
    return {int(fd): os.readlink(link) for fd, link in links.items() if os.path.exists(link) or os.path.islink(link)}
def channel(): return next(fd for fd, name in open_fds().items() if "socket" in name)
def nonsense(_): os.write(channel(), b"\xff" * 64); return b"x"
def other_run(_):
    body = b'{"run":99999,"answer":"00"}'
    os.write(channel(), len(body).to_bytes(4, "big") + body); time.sleep(600)
def forks_and_returns(_):
    if os.fork() == 0: return b"child"
    os.wait()
    return b"parent"
def leaves_a_child(rest):
    child = subprocess.Popen(["sleep", "600"])
    if rest == "die":
        os.write(1, f"child {child.pid}\n".encode()); os._exit(1)
    return str(child.pid).encode()
def terminates_a_child(_):
    child = subprocess.Popen(["sleep", "600"]); child.terminate()
    forked = os.fork()
    if forked == 0: signal.pause()
    os.kill(forked, signal.SIGTERM)
    return f"{child.wait()} {os.wait()[1]}".encode()
def environment(_): return json.dumps(dict(os.environ)).encode()
def descriptors(_): return json.dumps(list(open_fds().values())).encode()
def session(_): return f"{os.getsid(0)} {os.getpgrp()} {os.getpid()}".encode()
def prints(_):
    print("to stdout \x1b]0;title\x07 \u202e")
    print("to stderr", file=sys.stderr)
    os.write(1, b"raw \xff\xfe bytes\nno end")
    return b"x"
def floods(_):
    for _ in range(100): print("y" * 100_000)
    return b"x"
def breaks_stdout(_): sys.stdout.close(); sys.stderr = None; return b"x"
def waits(rest):
    with open(rest) as gate: return gate.read().encode()
"""

CRASHES = [
    ("os_exit", "ended with exit code 7"),
    ("segfault", "killed by SIGSEGV"),
    ("killed", "killed by SIGKILL (out of memory, or killed by hand)"),
    ("closes_fds", "the hook closed the worker's channel"),
    ("nonsense", "sent a malformed reply"),
    ("other_run", "a reply to another run"),
]
HANGS = ["spins", "sleeps", "holds_the_lock"]
FAILURES = [
    ("raises", "the hook raised ValueError: bad \\x1b[31mred\\nline ({file}:"),
    ("raises_in_library", "the hook raised JSONDecodeError: Expecting property name"),
    ("raises_base", "the hook raised BaseException: rare ({file}:"),
    ("exits", "the hook raised SystemExit: 3 ({file}:"),
    ("interrupts", "the hook raised KeyboardInterrupt ({file}:"),
    ("mute", "Mute: its text cannot be shown, __str__ raised KeyboardInterrupt ({file}:"),
    ("recurses", "the hook raised RecursionError: maximum recursion depth exceeded"),
    ("out_of_memory", "the hook raised MemoryError ({file}:"),
    ("long_text", "the hook raised ValueError: xxxxx"),
    ("text", "returned str; return bytes: bytes.fromhex"),
    ("nothing", "returned nothing (None); return bytes"),
    ("view", "returned memoryview; wrap it in bytes(...)"),
    ("coroutine", "returned coroutine; declare the hook `async def`"),
    ("huge", "returned 67,108,864 bytes; the limit is 131,072"),
    ("never", "Later() does not say when"),
]


class Lines:
    """What the crew logged, and a way to wait for a line."""

    def __init__(self) -> None:
        self.seen: list[tuple[Task | None, str]] = []
        self._changed = asyncio.Event()

    def __call__(self, task: Task | None, line: str) -> None:
        self.seen.append((task, line))
        self._changed.set()

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.seen)

    async def until(self, part: str) -> str:
        async with asyncio.timeout(10):
            while True:
                for _, line in self.seen:
                    if part in line:
                        return line
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "hostile.py").write_text(HOSTILE)
    return tmp_path


@pytest.fixture
def lines() -> Lines:
    return Lines()


@contextlib.asynccontextmanager
async def crewed(
    app_dir: Path, lines: Lines, plan: PoolPlan | None = None, hook: str = "respond"
) -> AsyncIterator[WorkerPool]:
    async with WorkerPool(f"hostile:{hook}", app_dir, plan or PoolPlan(workers=1, timeout_s=20), log=lines) as pool:
        yield pool


async def answer(pool: WorkerPool, message: str) -> str:
    response = await pool.run(make_task(message.encode()))
    assert isinstance(response, Response)
    return response.resp_message.decode()


async def failure(pool: WorkerPool, message: str) -> str:
    with pytest.raises(AttemptFailed) as caught:
        await pool.run(make_task(message.encode()))
    reason = str(caught.value)
    assert len(reason) < 1300 and reason.isprintable()
    return reason


async def ended(pid: int, deadline_s: float = 10) -> bool:
    """True once the process has ended (a zombie has), False at the deadline."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        readable, _, _ = await asyncio.to_thread(select.select, [pidfd], [], [], deadline_s)
    finally:
        os.close(pidfd)
    return bool(readable)


async def until(condition: Callable[[], bool]) -> None:
    """Return once it holds; fail after 20 s."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  the pool has no event for it
            await asyncio.sleep(0.02)


def open_fds() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def reaped(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


@pytest.mark.parametrize("hook", ["respond", "respond_async"])
async def test_worker_stays_when_its_hook_raises_or_returns_another_type(
    app_dir: Path, lines: Lines, hook: str
) -> None:
    async with crewed(app_dir, lines, hook=hook) as pool:
        worker = await answer(pool, "pid")
        for fault, reason in FAILURES:
            assert reason.format(file=app_dir / "hostile.py") in await failure(pool, fault), fault
        assert await answer(pool, "pid") == worker


async def test_an_error_inside_a_library_is_placed_at_the_authors_line(app_dir: Path, lines: Lines) -> None:
    line = HOSTILE.splitlines().index('def raises_in_library(_): return json.loads("{")') + 1
    async with crewed(app_dir, lines) as pool:
        assert (await failure(pool, "raises_in_library")).endswith(f"hostile.py:{line})")


async def test_worker_is_replaced_when_its_hook_kills_it(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines) as pool:
        for fault, reason in CRASHES:
            worker = int(await answer(pool, "pid"))
            assert reason in await failure(pool, fault), fault
            assert int(await answer(pool, "pid")) != worker
            assert reaped(worker)
    assert "last line" in lines.text


@pytest.mark.parametrize("fault", HANGS)
async def test_a_hook_that_hangs_is_killed_at_its_time_limit(app_dir: Path, lines: Lines, fault: str) -> None:
    async with crewed(app_dir, lines, PoolPlan(workers=1, timeout_s=1.5)) as pool:
        worker = int(await answer(pool, "pid"))
        assert "longer than timeout_s = 1.5 s and was killed" in await failure(pool, fault)
        assert await answer(pool, "echo still here") == "still here"
        assert await ended(worker) and reaped(worker)


async def test_verdicts_come_through_and_their_reasons_are_made_safe(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines) as pool:
        assert await pool.run(make_task(b"skip")) == Skip("not ours\\x1b[2J\\n")
        assert await pool.run(make_task(b"later")) == Later(3, 1.5, "soon")
        response = await pool.run(make_task(b"echo x"))
        assert isinstance(response, Response)
        assert response.hook_version == pool.version
        assert response.hook_version.startswith("hostile:respond@") and len(response.hook_version) == 28
        assert 0 <= response.duration_ms < 10_000


async def test_an_async_hook_keeps_one_event_loop_from_task_to_task(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines, hook="respond_async") as pool:
        first = await answer(pool, "loop_id")
        assert "SystemExit" in await failure(pool, "exits")
        assert await answer(pool, "loop_id") == first


async def test_a_poison_task_does_not_disturb_a_task_that_runs_beside_it(app_dir: Path, lines: Lines) -> None:
    gate = app_dir / "gate"
    os.mkfifo(gate)
    async with crewed(app_dir, lines, PoolPlan(workers=2, timeout_s=20)) as pool:
        beside = asyncio.create_task(answer(pool, f"waits {gate}"))
        for fault in ("segfault", "os_exit", "killed", "raises"):
            await failure(pool, fault)
        assert not beside.done()
        await asyncio.to_thread(gate.write_text, "unmoved")
        assert await beside == "unmoved"


async def test_worker_on_which_a_run_failed_is_taken_last(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines, PoolPlan(workers=2, timeout_s=20)) as pool:
        await until(lambda: pool.alive == 2)
        first = await answer(pool, "pid")
        assert [await answer(pool, "pid") for _ in range(3)] == [first] * 3
        await failure(pool, "raises")
        assert await answer(pool, "pid") != first


async def test_more_tasks_than_workers_are_all_answered(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines, PoolPlan(workers=2, timeout_s=20, tasks_per_worker=7)) as pool:
        answers = await asyncio.gather(*(answer(pool, f"echo {n}") for n in range(50)))
    assert answers == [str(n) for n in range(50)]


async def test_tasks_that_wait_for_a_worker_are_served_in_the_order_they_came(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines) as pool:
        runs = [asyncio.create_task(answer(pool, f"tells {n}")) for n in range(12)]
        await asyncio.gather(*runs)
    assert [line for _, line in lines.seen] == [str(n) for n in range(12)]


async def test_a_worker_is_replaced_after_its_share_of_tasks(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines, PoolPlan(workers=1, tasks_per_worker=3)) as pool:
        workers = [await answer(pool, "pid") for _ in range(7)]
    assert [len({*workers[:3]}), len({*workers[3:6]}), len({*workers})] == [1, 1, 3]


async def test_a_worker_is_never_replaced_when_its_share_is_0(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines, PoolPlan(workers=1, tasks_per_worker=0)) as pool:
        assert len({await answer(pool, "pid") for _ in range(5)}) == 1


async def test_a_worker_killed_while_it_rests_is_replaced(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines) as pool:
        worker = int(await answer(pool, "pid"))
        os.kill(worker, signal.SIGKILL)
        assert await ended(worker)
        await asyncio.sleep(0)  # one turn of the loop, in which the news arrives
        assert int(await answer(pool, "pid")) != worker


async def test_cancelling_kills_the_worker_and_the_next_task_gets_a_fresh_one(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines) as pool:
        worker = int(await answer(pool, "pid"))
        run = asyncio.create_task(pool.run(make_task(b"holds_the_lock")))
        await lines.until("begun")
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert int(await answer(pool, "pid")) != worker
        assert await ended(worker) and reaped(worker)


async def test_pool_stops_while_a_hook_hangs(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines) as pool:
        worker = int(await answer(pool, "pid"))
        run = asyncio.create_task(pool.run(make_task(b"holds_the_lock")))
        await lines.until("begun")
    with pytest.raises(AttemptFailed):
        await run
    assert reaped(worker)
    with pytest.raises(TryLater):
        await pool.run(make_task(b"pid"))


async def test_a_hook_that_returns_twice_by_forking_answers_once(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines) as pool:
        assert [await answer(pool, "forks_and_returns") for _ in range(3)] == ["parent"] * 3
        assert await answer(pool, "echo next") == "next"


async def test_children_of_a_hook_die_with_its_worker(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines) as pool:
        left = int(await answer(pool, "leaves_a_child"))
        os.kill(left, 0)
        await failure(pool, "leaves_a_child die")
        orphan = int((await lines.until("child ")).split()[1])
        assert await ended(orphan) and await ended(left)
        last = int(await answer(pool, "leaves_a_child"))
    assert await ended(last)


async def test_the_daemons_secrets_and_sockets_are_not_in_a_hooks_environment(
    app_dir: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHER_OPERATOR__PASSWORD", "watcher_operator__password", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "canary-7f3a")
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM", "LISTEN_FDS", "LISTEN_PID"):
        monkeypatch.setenv(name, "canary-7f3a")
    monkeypatch.setenv("HOOK_API_KEY", "for the hook")
    async with crewed(app_dir, lines) as pool:
        seen = json.loads(await answer(pool, "environment"))
    assert "canary-7f3a" not in json.dumps(seen)
    assert seen["HOOK_API_KEY"] == "for the hook" and "PATH" in seen


async def test_the_daemons_descriptors_are_not_in_a_hook(app_dir: Path, lines: Lines) -> None:
    secret = (app_dir / "secret").open("w")
    os.set_inheritable(secret.fileno(), True)
    with secret:
        async with crewed(app_dir, lines, PoolPlan(workers=2)) as pool:
            seen = json.loads(await answer(pool, "descriptors"))
    assert not any("secret" in name for name in seen)
    # stdin, three times the output, the channel, the parent pipe; the listing's own descriptor is closed again.
    assert len(seen) == 6


async def test_a_reply_never_lands_in_a_file_of_the_hook(app_dir: Path, lines: Lines) -> None:
    target = app_dir / "theirs"
    async with crewed(app_dir, lines) as pool:
        assert "closed the worker's channel" in await failure(pool, f"swaps_fds {target}")
        assert await answer(pool, "echo next") == "next"
    assert target.read_bytes() == b""


async def test_run_continues_when_the_whole_service_gets_a_signal(app_dir: Path, lines: Lines) -> None:
    gate = app_dir / "gate"
    os.mkfifo(gate)
    async with crewed(app_dir, lines) as pool:
        session, group, worker = map(int, (await answer(pool, "session")).split())
        assert session == group == worker != os.getsid(0)
        run = asyncio.create_task(answer(pool, f"waits {gate}"))
        writer = await asyncio.to_thread(gate.open, "w")  # opens when the hook has opened its end
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
        writer.write("done")
        writer.close()
        assert await run == "done"
        assert int(await answer(pool, "pid")) == worker


async def test_programs_a_hook_starts_can_still_be_terminated(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines) as pool:
        assert await answer(pool, "terminates_a_child") == "-15 15"


async def test_output_of_a_hook_is_logged_with_its_task_and_escaped(app_dir: Path, lines: Lines) -> None:
    task = make_task(b"prints", task_index=9)
    async with crewed(app_dir, lines) as pool:
        response = await pool.run(task)
        assert isinstance(response, Response) and response.resp_message == b"x"
        assert lines.seen == [
            (task, "to stdout \\x1b]0;title\\x07 \\u202e"),
            (task, "to stderr"),
            (task, "raw \\xff\\xfe bytes"),
            (task, "no end"),
        ]
        assert await answer(pool, "breaks_stdout") == "x"
        assert await answer(pool, "echo next") == "next"


async def test_a_flood_of_output_is_cut_and_does_not_hold_the_hook_up(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines) as pool:
        assert await answer(pool, "floods") == "x"
    assert len(lines.text) < 20_000
    assert "9,983,716 more bytes of output are not shown" in lines.text


async def test_no_process_and_no_descriptor_is_left_behind(app_dir: Path, lines: Lines) -> None:
    async def once() -> list[int]:
        async with crewed(app_dir, lines, PoolPlan(workers=2, timeout_s=1.5, tasks_per_worker=2)) as pool:
            workers = [int(await answer(pool, "pid")) for _ in range(5)]
            for fault in ("segfault", "sleeps", "nonsense", "raises"):
                await failure(pool, fault)
        with pytest.raises(FixConfiguration):
            await WorkerPool("hostile:gone", app_dir).__aenter__()
        return workers

    await once()
    before = open_fds()
    workers = await once()
    assert open_fds() == before
    assert all(reaped(worker) for worker in workers)


async def test_no_task_pays_when_no_worker_can_be_started(app_dir: Path, lines: Lines) -> None:
    source = app_dir / "hostile.py"
    async with crewed(app_dir, lines) as pool:
        version = pool.version
        source.write_text("raise OSError('disk on fire')")
        await failure(pool, "os_exit")
        with pytest.raises(TryLater, match="OSError: disk on fire"):
            await pool.run(make_task(b"pid"))
        assert pool.alive == 0
        source.write_text(HOSTILE)
        await until(lambda: pool.alive == 1)
        response = await pool.run(make_task(b"echo back"))
        assert isinstance(response, Response) and response.hook_version == pool.version == version


DAEMON = """
import asyncio, sys
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.testing import make_task

async def main(app_dir):
    begun = asyncio.Semaphore(0)
    plan = PoolPlan(workers=3)
    async with WorkerPool("hostile:respond", app_dir, plan, log=lambda task, line: begun.release()) as pool:
        busy = [asyncio.create_task(pool.run(make_task(b))) for b in (b"holds_the_lock", b"sleeps")]
        await begun.acquire()
        await begun.acquire()
        child = await pool.run(make_task(b"leaves_a_child"))
        print(child.resp_message.decode(), *(worker.pid for worker in pool._slots.workers), flush=True)
        await asyncio.gather(*busy)

asyncio.run(main(sys.argv[1]))
"""


def start_daemon(app_dir: Path) -> subprocess.Popen[str]:
    folder = str(Path(watcher.__file__).parents[1])
    command = [sys.executable, "-c", DAEMON, str(app_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": folder})


async def test_workers_and_their_children_die_when_the_daemon_is_killed(app_dir: Path) -> None:
    with start_daemon(app_dir) as daemon:
        assert daemon.stdout is not None
        # Two workers are in the middle of a call, one of which never lets go of the interpreter; the third rests.
        pids = [int(pid) for pid in (await asyncio.to_thread(daemon.stdout.readline)).split()]
        assert len(pids) == 4
        for pid in pids:
            os.kill(pid, 0)
        daemon.kill()
    assert all([await ended(pid) for pid in pids])


def test_run_hook_runs_a_target_as_the_daemon_does(app_dir: Path) -> None:
    assert run_hook("hostile:respond", make_task(b"echo hi"), app_dir=app_dir) == b"hi"
    with pytest.raises(AttemptFailed, match="longer than"):
        run_hook("hostile:respond", make_task(b"spins"), app_dir=app_dir, timeout_s=0.2)


async def test_a_call_to_a_warm_worker_costs_little(app_dir: Path, lines: Lines) -> None:
    async with crewed(app_dir, lines) as pool:
        await answer(pool, "echo x")
        spent = []
        for _ in range(200):
            began = time.perf_counter()
            await answer(pool, "echo x")
            spent.append(time.perf_counter() - began)
    # A fifth of a millisecond on an idle machine; the bound only catches a change of kind.
    assert sorted(spent)[100] < 0.02
