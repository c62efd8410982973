"""The version of a hook: the same for the same code anywhere, another for any change of its package."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from watcher.hook.plan import PoolPlan
from watcher.hook.runner import Runner, open_runner
from watcher.hook.values import ValueTypes
from watcher.task import Response
from watcher.testing import make_task

INIT = ""
HOOK = """
from avs import maths
import table

def respond(task):
    if task.message == b"late":
        from avs import late
        return b"late"
    return bytes([maths.double(task.message[0]) + table.OFFSET])
"""
FILES = {
    "avs/__init__.py": INIT,
    "avs/hook.py": HOOK,
    "avs/maths.py": "def double(x):\n    return 2 * x\n",
    "avs/late.py": "A = 1\n",
    "avs/prices.json": '{"eth": 1}\n',
    "table.py": "OFFSET = 1\n",
    "unrelated.py": "X = 1\n",
}


def write(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


async def version(folder: Path, target: str = "avs.hook:respond", types: ValueTypes | None = None) -> str:
    plan = PoolPlan(workers=1, timeout_s=20, types=types or ValueTypes())
    async with open_runner(target, plan, app_dir=folder) as runner:
        return runner.version


async def answer(runner: Runner, message: bytes = b"\x02") -> Response:
    response = await runner.run(make_task(message))
    assert isinstance(response, Response)
    return response


def committed(folder: Path) -> str:
    """Make a repository of a folder with all of its files; return the revision."""
    options = ("-c", "user.name=Author", "-c", "user.email=author@example.com")
    for arguments in (["init"], ["add", "."], ["commit", "-m", "A hook"]):
        subprocess.run(["git", *options, *arguments], cwd=folder, check=True, capture_output=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


async def test_version_does_not_depend_on_folder_or_times(tmp_path: Path) -> None:
    first = await version(write(tmp_path / "one"))
    assert first == await version(write(tmp_path / "two" / "deeper"))
    assert first.startswith("avs.hook:respond@") and len(first.rpartition("@")[2]) == 12
    assert first != await version(tmp_path / "one", types=ValueTypes("bytes"))


async def test_version_covers_the_whole_package(tmp_path: Path) -> None:
    """Also what the hook has not loaded yet: a module that it imports late, a table beside the code."""
    folder = write(tmp_path)
    seen = {await version(folder)}
    for name in ("avs/maths.py", "avs/late.py", "avs/prices.json", "table.py", "avs/__init__.py"):
        (folder / name).write_text(FILES[name] + "\n")
        seen.add(await version(folder))
    (folder / "avs" / "sub").mkdir()
    (folder / "avs" / "sub" / "new.py").write_text("")
    seen.add(await version(folder))
    assert len(seen) == 7
    (folder / "unrelated.py").write_text("X = 2\n")
    for name in ("avs/run.log", "avs/cache.db", "avs/.hidden", "avs/__pycache__/x.pyc"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    assert await version(folder) in seen


async def test_a_table_that_changes_stops_no_worker_and_shows_after_a_reload(tmp_path: Path) -> None:
    folder = write(tmp_path)
    plan = PoolPlan(workers=1, timeout_s=20, tasks_per_worker=1)
    async with open_runner("avs.hook:respond", plan, app_dir=folder) as runner:
        before = runner.version
        (folder / "avs" / "prices.json").write_text("{}")
        assert [(await answer(runner)).hook_version for _ in range(3)] == [before] * 3
        assert (await runner.reload())[0] == before != runner.version
        assert (await answer(runner)).hook_version == runner.version


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("target", ["avs.hook:respond", "exec:./program.py"])
async def test_version_names_the_revision_and_marks_edits(tmp_path: Path, target: str) -> None:
    folder = write(tmp_path)
    program = folder / "program.py"
    program.write_text(f"#!{sys.executable}\nimport os\nfor line in os.fdopen(3): pass\n")
    program.chmod(0o755)
    head = await asyncio.to_thread(committed, folder)
    assert (await version(folder, target)).endswith(f" git {head[:12]}")
    for name in ("avs/late.py", "program.py"):
        with (folder / name).open("a") as file:
            file.write("# edited\n")
    assert (await version(folder, target)).endswith(f" git {head[:12]}+dirty")


async def test_version_names_the_installed_package(tmp_path: Path) -> None:
    """The package belongs to a distribution in the same folder, and an equally named one elsewhere does not count."""
    folder = write(tmp_path / "site-packages")
    info = folder / "my_avs-1.4.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-avs\nVersion: 1.4.2\n")
    (info / "RECORD").write_text("avs/__init__.py,,\navs/hook.py,,\n")
    (info / "top_level.txt").write_text("avs\n")
    assert (await version(folder)).endswith(" my-avs 1.4.2")
    write(tmp_path / "source")
    info.rename(tmp_path / "source" / "avs-9.dist-info")
    (tmp_path / "source" / "avs-9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: avs\nVersion: 9\n")
    assert (await version(tmp_path / "source")).endswith(" avs 9")
    assert not (await version(folder)).endswith(" 9")


async def test_a_broken_package_of_metadata_stops_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path)
    info = folder / "avs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_bytes(b"\xff\xfe\0Name")
    (info / "direct_url.json").write_text("[")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_bytes(b"\xff" * 100)
    assert (await version(folder)).startswith("avs.hook:respond@")


async def test_a_long_name_keeps_hash_and_revision(tmp_path: Path) -> None:
    name = "m" * 100
    (tmp_path / f"{name}.py").write_text("def respond(task):\n    return b''\n" + "class A:\n    respond = respond\n")
    long = await version(tmp_path, f"{name}:respond")
    assert len(long) <= 128 and long.startswith(name)
    inner = await version(tmp_path, f"{name}:A.respond")
    assert len(inner) <= 128 and len(inner.rpartition("@")[2]) == 12
