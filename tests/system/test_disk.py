"""The disk under the ledger is full, read-only or slow, or no file can be opened: the daemon waits, and loses nothing.

Real file systems, mounted for the test: that needs root, and so do the limits of another process.
"""

import asyncio
import os
import resource
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from bench import shim
from tests.system.daemon_rig import POLL_S, Daemon, Rig, free_port, running_rig
from watcher.health.conditions import KINDS, STORE
from watcher.report.story import Story

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="file systems and limits of others need root")


async def run(*command: str, mended: int = 0) -> None:
    """Raises OSError unless it ends with 0 or `mended`."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode not in (0, mended):
        raise OSError(f"{' '.join(command)}: {output.decode().strip()}")


@asynccontextmanager
async def mounted(at: Path, *how: str) -> AsyncIterator[Path]:
    """A file system of its own at this folder. Skips where none can be mounted."""
    await run("mkdir", str(at))
    try:
        await run("mount", *how, str(at))
    except OSError as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        yield at
    finally:
        with suppress(OSError):  # a test may have done so itself
            await run("umount", "--lazy", str(at))


@asynccontextmanager
async def rig_on(disk: Path, folder: Path, *, hook: str = "dice") -> AsyncIterator[Rig]:
    """Everything where it always is, but the ledger."""
    async with running_rig(folder, hook=hook, toml={"ledger_url": f"sqlite:///{disk / 'watcher.db'}"}) as rig:
        rig.ledger = disk / "watcher.db"
        yield rig


def written_attempts(rig: Rig) -> int:
    return int(rig.query("SELECT count(*) FROM attempts WHERE kind = 'post'")[0][0])


def store_is_told(daemon: Daemon) -> bool:
    lines = [line for line in daemon.notices() if line.startswith("STATUS=")]
    return "store: " in lines[-1]


async def explained_by_the_disk(rig: Rig, index: int, listen: str) -> Story:
    """The story of a task once its hook's answer could not be stored: until then the hook is what it waits for."""
    for _ in range(300):
        story = await rig.explain(index, listen)
        if story.condition == STORE:
            return story
        await asyncio.sleep(POLL_S)
    raise AssertionError(story.summary)


def fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


async def test_full_disk_sends_nothing_and_work_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async with (
        mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=16m", "tmpfs") as disk,
        rig_on(disk, tmp_path, hook="gated") as rig,
    ):
        listen = f"127.0.0.1:{free_port()}"
        daemon = await rig.start(WATCHER_HTTP__LISTEN=listen)
        first = await rig.create(5)
        await rig.net.mine()
        await rig.until(lambda: (rig.hook_folder / f"entered-{first[0]}").exists(), "the hook is at work")
        fill(disk / "filler")
        (rig.hook_folder / "open").touch()  # now answers come, and none of them can be written down
        async with rig.mining(0.1):
            await rig.create(5)
            await rig.until(lambda: store_is_told(daemon), "the full disk is told")
            assert daemon.running
            assert len(rig.received()) == written_attempts(rig)
            story = await explained_by_the_disk(rig, first[0], listen)
            assert story.advice == KINDS[STORE].advice, story.summary
            assert "disk is full" in story.reason
            before = daemon.notices().count("READY=1")
            os.truncate(disk / "filler", 0)  # a file that is removed may keep its pages for as long as the kernel likes
            await rig.until(lambda: rig.all_in("final", indices=range(10)), "every task is final", timeout_s=60)
        assert daemon.notices().count("READY=1") == before == 1, "it is the same daemon"
        assert len(rig.received()) == written_attempts(rig)
        await rig.verify()
        assert await daemon.stop() == 0


async def test_read_only_disk_is_reported_and_a_restart_after_repair_goes_on(tmp_path: Path) -> None:
    """As ext4 does it after an error: every file is still open, and no write comes through."""
    if not shutil.which("mkfs.ext4"):
        pytest.skip("there is no mkfs.ext4")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    await run("mkfs.ext4", "-q", str(image))
    disk = tmp_path / "disk"
    async with mounted(disk, "-o", "loop", str(image)), rig_on(disk, tmp_path, hook="gated") as rig:
        daemon = await rig.start()
        first = await rig.create(2)
        await rig.net.mine()
        await rig.until(lambda: (rig.hook_folder / f"entered-{first[0]}").exists(), "the hook is at work")
        await run("mount", "-o", "remount,abort", str(disk))
        (rig.hook_folder / "open").touch()
        async with rig.mining(0.1):
            await rig.until(lambda: store_is_told(daemon), "it is logged")
        assert daemon.running
        assert await daemon.stop() == 0, "it can still be stopped in good order"
        assert "Traceback" not in daemon.log
        assert rig.received() == []
        still_read_only = await rig.start(ready=False)
        assert await still_read_only.wait() == 75, still_read_only.log
        assert "Traceback" not in still_read_only.log
        await run("umount", str(disk))
        await run("e2fsck", "-fp", str(image), mended=1)
        await run("mount", "-o", "loop", str(image), str(disk))
        daemon = await rig.start()
        await rig.create(2)
        await rig.settle()
        assert len(await rig.verify()) == 4
        assert await daemon.stop() == 0


@contextmanager
def few_descriptors(pid: int) -> Iterator[None]:
    """No more than are open now: the next file or socket is one too many."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(highest, before[0]), before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


async def test_without_descriptors_nothing_is_lost_and_with_them_all_goes_on(tmp_path: Path) -> None:
    async with running_rig(tmp_path, persist=True) as rig:
        daemon = await rig.start()
        await rig.create(2)
        await rig.settle()
        with few_descriptors(daemon.pid):
            await rig.net.anvil.stop()  # connections that are there would go on serving
            await rig.net.restart_chain()
            await rig.create(5)
            async with rig.mining(0.1):
                await rig.until(lambda: "Too many open files" in daemon.log, "it has run out of them", timeout_s=60)
            assert daemon.running
        await rig.settle()
        assert len(await rig.verify()) == 7
        assert "Traceback" not in daemon.log
        assert await daemon.stop() == 0


async def test_burst_is_answered_in_time_when_each_commit_takes_half_a_second(tmp_path: Path) -> None:
    """A commit for each move of each task alone would take five minutes."""
    try:
        slow = shim.environment(shim.build(tmp_path), 500)
    except shim.NoShim as why:
        pytest.skip(str(why))
    async with running_rig(tmp_path, window_blocks=1000) as rig:
        daemon = await rig.start(environment=slow)
        began_s = time.monotonic()
        await rig.create(100)
        async with rig.mining(0.5):
            await rig.until(lambda: rig.all_in("final", indices=range(100)), "all are final", timeout_s=150)
        took_s = time.monotonic() - began_s
        assert took_s > 3, "the disk was slow"
        assert rig.steps() >= 600
        assert len(await rig.verify()) == 100
        assert await daemon.stop() == 0
