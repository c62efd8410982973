"""Groups of tasks in real workers: each task is run once, for itself, whatever the others of its group do."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.integration.test_hook_crew import until
from watcher.errors import AttemptFailed, TryLater
from watcher.hook import pool as pool_module
from watcher.hook.group import Group, Run
from watcher.hook.pace import Pace
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.hook.process import WorkerProcess
from watcher.task import Response, Skip, Task
from watcher.testing import make_task

HOOK = r"""
import ctypes, json, os, signal, sys, time

HERE = os.path.dirname(__file__)

def respond(task):
    record = os.open(f"{HERE}/ran", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(record, b"%d\n" % task.task_index)
    os.close(record)
    name, _, rest = task.message.decode().partition(" ")
    return globals()[name](*rest.split())

def echo(text): return text.encode()
def pid(): return str(os.getpid()).encode()
def naps(seconds): time.sleep(float(seconds)); return b"awake"
def large(size, _): return b"x" * int(size)
def prints(text): print("line of", text); print("end of", text, end=""); return b""
def prints_by_child(text): os.system(f"echo child of {text}"); return b""
def floods(_): print("y" * 100_000); return b""
def breaks_stdout(_): os.dup2(os.open(os.devnull, os.O_WRONLY), 1); return b""
def takes(mib): return bytes(bytearray(int(mib) << 20)[:1])
def waits(gate):
    with open(gate) as opened: return opened.read().encode()

def raises(): raise ValueError("bad")
def os_exit(): os._exit(7)
def killed(): os.kill(os.getpid(), signal.SIGKILL)
def segfault(): ctypes.string_at(0)
def sleeps(): time.sleep(600)
def closes_fds(): os.closerange(0, 4096)
def channel(): return next(fd for fd in map(int, os.listdir("/proc/self/fd")) if "socket" in link(fd))
def link(fd):
    try: return os.readlink(f"/proc/self/fd/{fd}")
    except OSError: return ""
def nonsense(): os.write(channel(), b"\xff" * 64); return b"x"
def forges():
    for run in range(1, 5): send(run=run, us=1, answer="f0")
    return b"x"
def number():
    # The number of this run, which the hook finds in its own process.
    frame = sys._getframe()
    while "order" not in frame.f_locals: frame = frame.f_back
    return frame.f_locals["order"].run
def send(**fields):
    body = json.dumps(fields).encode()
    os.write(channel(), len(body).to_bytes(4, "big") + body)
def denies(): send(run=number(), not_begun=True); return b"x"
def replies_twice(): send(run=number(), us=1, answer=b"forged".hex()); return b"x"
"""

FAULTS = {
    "raises": "ValueError: bad",
    "os_exit": "exit code 7",
    "killed": "SIGKILL",
    "segfault": "SIGSEGV",
    "sleeps": "longer than timeout_s",
    "closes_fds": "closed the worker's channel",
    "nonsense": "malformed reply",
    "forges": "a reply to another run",
    "takes 400": "MemoryError",
}


class Groups:
    """The sizes of the groups that a pool made."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def make(self, worker: WorkerProcess, runs: Sequence[Run], timeout_s: float) -> Group:
        self.sizes.append(len(runs))
        return Group(worker, runs, timeout_s)


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Groups:
    """Have every pool make groups of up to 32, however slow this machine is."""
    groups = Groups()
    monkeypatch.setattr(pool_module, "Group", groups.make)
    monkeypatch.setattr(Pace, "group_size", property(lambda _: 32))
    return groups


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "hook.py").write_text(HOOK)
    return tmp_path


@contextlib.asynccontextmanager
async def opened(app_dir: Path, lines: list[tuple[int, str]] | None = None, **plan: float) -> AsyncIterator[WorkerPool]:
    def log(task: Task | None, line: str) -> None:
        if lines is not None:
            lines.append((task.task_index if task else -1, line))

    values = PoolPlan(**{"workers": 1, "timeout_s": 20, **plan})  # type: ignore[arg-type]
    async with WorkerPool("hook:respond", app_dir, values, log=log) as pool:
        await until(lambda: pool.alive == values.workers)
        yield pool


async def results(pool: WorkerPool, messages: Sequence[str]) -> list[str]:
    """Run the hook on all messages at the same time; return answers and the texts of failures."""
    tasks = [make_task(message.encode(), task_index=index) for index, message in enumerate(messages)]
    return [text_of(result) for result in await asyncio.gather(*map(pool.run, tasks), return_exceptions=True)]


def text_of(result: object) -> str:
    return result.resp_message.decode() if isinstance(result, Response) else str(result)


def runs_of(app_dir: Path) -> Counter[int]:
    """Return how often the hook began on each task index."""
    return Counter(int(line) for line in (app_dir / "ran").read_text().split())


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_costs_no_other_task_of_its_group(app_dir: Path, groups: Groups, fault: str) -> None:
    messages = [f"echo {index}" for index in range(12)]
    messages[5] = fault
    memory_mb = 200 if fault.startswith("takes") else 0
    async with opened(app_dir, timeout_s=2 if fault == "sleeps" else 20, memory_mb=memory_mb) as pool:
        answers = await results(pool, messages)
    assert FAULTS[fault] in answers.pop(5)
    assert answers == [str(index) for index in range(12) if index != 5]
    assert groups.sizes[0] == 12
    # The writer of nonsense may have spoiled the reply of a run that had begun behind it.
    most = 2 if fault in ("nonsense", "forges") else 1
    assert max(runs_of(app_dir).values()) <= most


async def test_the_last_task_of_a_group_fails_alone(app_dir: Path, groups: Groups) -> None:
    async with opened(app_dir) as pool:
        answers = await results(pool, ["echo 0", "echo 1", "killed"])
        assert answers[:2] == ["0", "1"] and "SIGKILL" in answers[2]
        assert await results(pool, ["echo next"]) == ["next"]
    assert groups.sizes == [3, 1]


async def test_time_spent_in_the_queue_is_not_part_of_the_limit(app_dir: Path, groups: Groups) -> None:
    async with opened(app_dir, timeout_s=3) as pool:
        assert await results(pool, ["naps 0.8"] * 5) == ["awake"] * 5
    assert groups.sizes[0] == 5


async def test_an_idle_worker_takes_the_queue_behind_a_slow_task(app_dir: Path, groups: Groups) -> None:
    gate = app_dir / "gate"
    os.mkfifo(gate)
    async with opened(app_dir, workers=2) as pool:
        messages = [f"waits {gate}", *(f"echo {index}" for index in range(1, 8))]
        busy, *quick = [
            asyncio.create_task(pool.run(make_task(message.encode(), task_index=index)))
            for index, message in enumerate(messages)
        ]
        assert [text_of(await run) for run in quick] == [str(index) for index in range(1, 8)]
        assert not busy.done()
        await asyncio.to_thread(gate.write_text, "done")
        assert text_of(await busy) == "done"
    assert groups.sizes[:2] == [4, 4]
    assert runs_of(app_dir) == Counter(range(8))


async def test_queue_of_a_stopped_worker_runs_once_elsewhere(app_dir: Path, groups: Groups) -> None:
    """A worker that the system holds up begins late: then it must not begin what has been given to another."""
    async with opened(app_dir, workers=2) as pool:
        pids = {int(text) for text in await results(pool, ["pid", "pid"])}
        slow = pids.pop()
        os.kill(slow, signal.SIGSTOP)
        (app_dir / "ran").unlink()
        answers = asyncio.create_task(results(pool, ["pid"] * 20))
        await until(lambda: (app_dir / "ran").exists() and len(runs_of(app_dir)) == 19)
        os.kill(slow, signal.SIGCONT)
        counts = Counter(int(text) for text in await answers)
        assert await results(pool, ["echo next"] * 4) == ["next"] * 4, "the worker that was stopped goes on"
        assert pool.alive == 2
    assert counts[slow] == 1
    assert all(count == 1 for index, count in runs_of(app_dir).items() if index >= 4)


async def test_output_belongs_to_the_task_that_printed_it(app_dir: Path, groups: Groups) -> None:
    lines: list[tuple[int, str]] = []
    kinds = ("prints", "prints_by_child", "echo", "floods")
    async with opened(app_dir, lines) as pool:
        await results(pool, [f"{kinds[index % 4]} {index}" for index in range(20)])
        assert groups.sizes[0] == 20
    expected: list[tuple[int, str]] = []
    for index in range(20):
        match kinds[index % 4]:
            case "prints":
                expected += [(index, f"line of {index}"), (index, f"end of {index}")]
            case "prints_by_child":
                expected += [(index, f"child of {index}")]
            case "floods":
                expected += [(index, "y"), (index, "(83,617 more bytes of output are not shown)")]
    assert [(index, "y" if line.startswith("yy") else line) for index, line in lines] == expected


async def test_output_keeps_its_task_when_a_hook_redirects_stdout(app_dir: Path, groups: Groups) -> None:
    lines: list[tuple[int, str]] = []
    async with opened(app_dir, lines) as pool:
        await results(pool, ["prints 0", "breaks_stdout 1", "prints 2", "echo 3"])
        assert groups.sizes == [4]
    assert lines == [(0, "line of 0"), (0, "end of 0")]


async def test_large_tasks_and_answers_do_not_block_each_other(app_dir: Path, groups: Groups) -> None:
    """Requests and replies that exceed the buffers of the channel, both ways at the same time."""
    padding = "0" * 120_000
    async with opened(app_dir) as pool:
        answers = await results(pool, [f"large {100_000 + index} {padding}" for index in range(24)])
    assert [len(answer) for answer in answers] == [100_000 + index for index in range(24)]
    assert groups.sizes[0] == 24


async def test_cancelling_a_queued_task_costs_no_other(app_dir: Path, groups: Groups) -> None:
    gate = app_dir / "gate"
    os.mkfifo(gate)
    async with opened(app_dir) as pool:
        runs = [
            asyncio.create_task(pool.run(make_task(message.encode(), task_index=index)))
            for index, message in enumerate([f"waits {gate}", "echo 1", "sleeps", "echo 3"])
        ]
        writer = await asyncio.to_thread(gate.open, "w")  # opens when the hook has opened its end
        runs[2].cancel()
        writer.write("done")
        writer.close()
        assert [text_of(await run) for run in (runs[0], runs[1], runs[3])] == ["done", "1", "3"]
    assert groups.sizes[0] == 4
    assert all(count == 1 for count in runs_of(app_dir).values())


async def test_cancelling_the_running_task_frees_its_queue(app_dir: Path, groups: Groups) -> None:
    async with opened(app_dir) as pool:
        runs = [
            asyncio.create_task(pool.run(make_task(message.encode(), task_index=index)))
            for index, message in enumerate(["sleeps", "echo 1", "echo 2"])
        ]
        await until(lambda: (app_dir / "ran").exists())
        runs[0].cancel()
        assert [text_of(await run) for run in runs[1:]] == ["1", "2"]
    assert groups.sizes[0] == 3


async def test_stop_fails_the_running_task_and_refuses_its_queue(app_dir: Path, groups: Groups) -> None:
    async with opened(app_dir) as pool:
        runs = [asyncio.create_task(pool.run(make_task(message))) for message in (b"sleeps", b"echo 1", b"echo 2")]
        await until(lambda: (app_dir / "ran").exists())
    with pytest.raises(AttemptFailed, match="SIGKILL"):
        await runs[0]
    for run in runs[1:]:
        with pytest.raises(TryLater, match="stopped"):
            await run


async def test_no_worker_runs_more_than_its_share(app_dir: Path, groups: Groups) -> None:
    async with opened(app_dir, workers=2, tasks_per_worker=7) as pool:
        counts = Counter(await results(pool, ["pid"] * 50))
    assert sum(counts.values()) == 50 and max(counts.values()) <= 7
    assert max(groups.sizes) > 1


async def test_no_task_begins_on_old_code_after_a_reload(app_dir: Path, groups: Groups) -> None:
    async with opened(app_dir, workers=2) as pool:
        before = asyncio.create_task(results(pool, ["naps 0.02"] * 40))
        await until(lambda: (app_dir / "ran").exists())
        source = app_dir / "hook.py"
        source.write_text(source.read_text().replace('b"awake"', 'b"new"'))
        await pool.reload()
        (app_dir / "ran").unlink()
        assert await results(pool, ["naps 0"] * 10) == ["new"] * 10
        assert set(await before) <= {"awake", "new"}
        # What began after the reload ran on the new code.
        began = sum(count for index, count in runs_of(app_dir).items() if index >= 10)
        assert (await before)[10:].count("new") >= began


async def test_a_forged_reply_that_nothing_began_fails_its_own_task(app_dir: Path, groups: Groups) -> None:
    async with opened(app_dir) as pool:
        answers = await results(pool, ["echo 0", "denies", "echo 2"])
    assert answers[0] == "0" and answers[2] == "2"
    assert "malformed reply" in answers[1]


async def test_a_task_that_replies_twice_costs_no_other(app_dir: Path, groups: Groups) -> None:
    async with opened(app_dir) as pool:
        assert await results(pool, ["echo 0", "replies_twice", "echo 2", "echo 3"]) == ["0", "forged", "2", "3"]
    assert groups.sizes[0] == 4


async def test_verdicts_of_a_group_reach_their_own_tasks(app_dir: Path, groups: Groups) -> None:
    (app_dir / "hook.py").write_text(
        "from watcher.task import Later, Skip\n"
        "def respond(task):\n"
        "    kind = task.task_index % 3\n"
        "    return [bytes([task.task_index]), Skip(str(task.task_index)), 1 / kind if kind == 3 else None][kind]\n"
    )
    async with opened(app_dir) as pool:
        tasks = [make_task(task_index=index) for index in range(9)]
        verdicts = await asyncio.gather(*map(pool.run, tasks), return_exceptions=True)
    for index, verdict in enumerate(verdicts):
        if index % 3 == 0:
            assert isinstance(verdict, Response) and verdict.resp_message == bytes([index])
        elif index % 3 == 1:
            assert verdict == Skip(str(index))
        else:
            assert isinstance(verdict, AttemptFailed)
