"""The code that answers is the code that was accepted: files that change on the disk change nothing before a reload."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from loguru import logger

from tests.integration.test_hook_crew import until
from watcher.errors import FixConfiguration, TryLater
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.task import Response
from watcher.testing import make_task

HOOK = """
import os, signal
import helper, pack.inner

def respond(task):
    name, _, rest = task.message.decode().partition(" ")
    return globals()[name](rest).encode()

def code(_): return f"1 {helper.CODE} {pack.inner.CODE}"
def lazy(_):
    import lazy_part
    return lazy_part.CODE
def die(_): os.kill(os.getpid(), signal.SIGKILL)
def wait(gate):
    with open(gate) as opened: return opened.read() + code("")
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "pack").mkdir()
    (tmp_path / "hook.py").write_text(HOOK)
    (tmp_path / "helper.py").write_text("CODE = 'h1'\n")
    (tmp_path / "pack" / "inner.py").write_text("CODE = 'p1'\n")
    (tmp_path / "lazy_part.py").write_text("CODE = 'l1'\n")
    return tmp_path


@pytest.fixture
async def pool(app_dir: Path) -> AsyncIterator[WorkerPool]:
    async with WorkerPool("hook:respond", app_dir, PoolPlan(workers=1, timeout_s=20)) as opened:
        yield opened


async def answer(pool: WorkerPool, message: str) -> str:
    response = await pool.run(make_task(message.encode()))
    assert isinstance(response, Response)
    return response.resp_message.decode()


async def new_worker(pool: WorkerPool) -> None:
    """Kill the worker and return once another has been tried."""
    with pytest.raises(Exception, match="SIGKILL"):
        await pool.run(make_task(b"die"))


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("hook.py", '"1 ', '"2 '),
        ("helper.py", "h1", "h2"),
        ("pack/inner.py", "p1", "p2"),
        ("hook.py", "import os", "import os, shadow"),
    ],
)
async def test_no_worker_answers_when_a_file_has_changed(
    app_dir: Path, pool: WorkerPool, name: str, old: str, new: str
) -> None:
    assert await answer(pool, "code") == "1 h1 p1"
    (app_dir / "shadow.py").write_text("")
    edit(app_dir / name, old, new)
    assert await answer(pool, "code") == "1 h1 p1", "the worker that is there goes on"
    await new_worker(pool)
    with pytest.raises(TryLater, match=rf"code has changed since it was loaded \({Path(name).name}.*reload"):
        await pool.run(make_task(b"code"))
    edit(app_dir / name, new, old)
    await until(lambda: pool.alive > 0)
    assert await answer(pool, "code") == "1 h1 p1"


async def test_an_edit_is_seen_when_size_and_time_stay_the_same(app_dir: Path, pool: WorkerPool) -> None:
    """The interpreter's cache of bytecode goes by both, and would run the old text under the new hash."""
    helper = app_dir / "helper.py"
    before = helper.stat()
    helper.write_text("CODE = 'h2'\n")
    os.utime(helper, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await pool.changed_files() == "helper.py"
    await new_worker(pool)
    with pytest.raises(TryLater, match=r"helper\.py"):
        await pool.run(make_task(b"code"))
    await pool.reload()
    assert await answer(pool, "code") == "1 h2 p1"


async def test_a_module_imported_during_a_run_is_held_to_the_first(app_dir: Path, pool: WorkerPool) -> None:
    assert await answer(pool, "lazy") == "l1"
    edit(app_dir / "lazy_part.py", "l1", "l2")
    assert await pool.changed_files() == "lazy_part.py"
    assert await answer(pool, "lazy") == "l1"
    await new_worker(pool)
    with pytest.raises(TryLater, match=r"changed code during a run.*lazy_part\.py.*reload"):
        await pool.run(make_task(b"lazy"))
    assert await answer(pool, "code") == "1 h1 p1"
    await pool.reload()
    assert await answer(pool, "lazy") == "l2"


async def test_a_file_that_vanished_is_named(app_dir: Path, pool: WorkerPool) -> None:
    assert await pool.changed_files() == ""
    (app_dir / "helper.py").unlink()
    assert await pool.changed_files() == "helper.py"


async def test_reload_swaps_every_worker_when_the_new_code_loads(app_dir: Path) -> None:
    gate = app_dir / "gate"
    os.mkfifo(gate)
    async with WorkerPool("hook:respond", app_dir, PoolPlan(workers=2, timeout_s=20)) as pool:
        await until(lambda: pool.alive == 2)
        running = asyncio.create_task(pool.run(make_task(f"wait {gate}".encode())))
        writer = await asyncio.to_thread(gate.open, "w")
        edit(app_dir / "helper.py", "h1", "h2")
        before, now = await pool.reload()
        assert before != now == pool.version and re.fullmatch(r"hook:respond@[0-9a-f]{12}", now)
        assert await pool.changed_files() == ""
        later = await asyncio.gather(*(pool.run(make_task(b"code")) for _ in range(6)))
        assert {(outcome.resp_message, outcome.hook_version) for outcome in later if isinstance(outcome, Response)} == {
            (b"1 h2 p1", now)
        }
        writer.write("begun before: ")
        writer.close()
        ended = await running
        assert isinstance(ended, Response)
        assert (ended.resp_message, ended.hook_version) == (b"begun before: 1 h1 p1", before)
        await until(lambda: pool.alive == 2)
        assert {await answer(pool, "code") for _ in range(4)} == {"1 h2 p1"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def respond(task)", FixConfiguration),
        ("raise OSError('no network')", TryLater),
        ("x = 1", FixConfiguration),
        ("import os; os._exit(3)", FixConfiguration),
    ],
)
async def test_the_old_code_answers_when_a_reload_fails(
    app_dir: Path, pool: WorkerPool, text: str, error: type[Exception]
) -> None:
    version = pool.version
    (app_dir / "hook.py").write_text(text)
    with pytest.raises(error):
        await pool.reload()
    assert pool.version == version
    assert await answer(pool, "code") == "1 h1 p1"


async def test_a_worker_stays_beyond_its_share_when_none_could_follow(app_dir: Path) -> None:
    async with WorkerPool("hook:respond", app_dir, PoolPlan(workers=1, tasks_per_worker=2)) as pool:
        edit(app_dir / "helper.py", "h1", "h2")
        assert [await answer(pool, "code") for _ in range(5)] == ["1 h1 p1"] * 5


async def test_pool_starts_no_worker_before_a_reload_when_code_has_changed(app_dir: Path) -> None:
    """A reload brings back a pool that lost every worker to changed code."""
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message} {extra}")
    async with WorkerPool("hook:respond", app_dir, PoolPlan(workers=2, timeout_s=20)) as pool:
        await until(lambda: pool.alive == 2)
        edit(app_dir / "hook.py", '"1 ', '"2 ')
        for _ in range(2):
            await new_worker(pool)
        with pytest.raises(TryLater):
            await pool.run(make_task(b"code"))
        await pool.reload()
        assert await answer(pool, "code") == "2 h1 p1"
    logger.remove(sink)
    warnings = [line for line in lines if line.startswith("hook.no_worker")]
    assert 1 <= len(warnings) <= 2, "logged once, not at every try"
    assert "code has changed" in warnings[0]
