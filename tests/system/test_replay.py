"""`watcher replay` over a real ledger and a real chain: the same hook, one that differs, one that fails."""

import asyncio
import hashlib
import json
import os
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from loguru import logger

from tests.system.daemon_rig import Done, Rig, running_rig
from watcher.cli.main import run

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNT = 6
HOOKS = """
from rig_hook import square
from watcher import Skip, Task

CALLS = []


def cubed(task: Task) -> bytes:
    number = int.from_bytes(task.message, "big")
    return (number**3).to_bytes(32, "big") if number > 4 else square(task)


def moody(task: Task) -> bytes | Skip:
    number = int.from_bytes(task.message, "big")
    if number == 1:
        raise ValueError("no <price> for \\x1b[31m this")
    return Skip("not ours") if number == 2 else square(task)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A ledger of tasks that are final; the daemon has ended."""
    async with running_rig(tmp_path_factory.mktemp("replay"), hook="square") as running:
        (running.hook_folder / "others.py").write_text(HOOKS)
        daemon = await running.start()
        await running.create(COUNT)
        await running.settle()
        assert await daemon.stop() == 0
        yield running


Replay = Callable[..., Awaitable[Done]]


@pytest.fixture
def replay(rig: Rig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Replay]:
    """`watcher replay` in this process, which is quicker than one of its own."""
    for name in [name for name in os.environ if name.startswith("WATCHER_") and name != "WATCHER_ANVIL"]:
        monkeypatch.delenv(name)
    for name, value in rig.environment.items():
        monkeypatch.setenv(name, value)

    async def command(*arguments: str) -> Done:
        capfd.readouterr()
        code = await asyncio.to_thread(run, ["replay", *arguments, "--config", str(rig.config)])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Done(code, out, err)

    yield command
    logger.remove()
    logger.configure(patcher=lambda _: None)


def _bytes(rig: Rig) -> dict[str, str]:
    files = [path for path in rig.folder.glob("watcher.db*") if not path.name.endswith("-shm")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.stat().st_size}


@pytest.mark.parametrize("source", ["--from-ledger", "--chain"])
async def test_replay_finds_no_difference_when_the_hook_is_the_same(rig: Rig, replay: Replay, source: str) -> None:
    ledger, requests = _bytes(rig), rig.received()
    done = await replay(source, "--json")
    assert done.code == 0, done
    summary = done.json
    assert (summary["tasks"], summary["equal"], summary["differences"], summary["ok"]) == (COUNT, COUNT, 0, True)
    assert summary["replayed_ms"]["p50"] is not None
    assert (summary["recorded_ms"]["p50"] is not None) == (source == "--from-ledger")
    assert (_bytes(rig), rig.received()) == (ledger, requests)


@pytest.mark.parametrize("source", ["--from-ledger", "--chain"])
async def test_replay_exits_with_1_when_an_answer_differs(
    rig: Rig, replay: Replay, source: str, tmp_path: Path
) -> None:
    junit, markdown = tmp_path / "junit.xml", tmp_path / "replay.md"
    files = ("--junit", str(junit), "--markdown", str(markdown))
    done = await replay("others:cubed", source, "--json", *files)
    assert done.code == 1, done
    summary = done.json
    assert (summary["equal"], summary["different"], summary["differences"]) == (4, 2, 2)
    case = summary["cases"][0]
    assert (case["task_index"], case["accepted"]["guess"], case["answer"]["guess"]) == (4, "uint256 25", "uint256 125")
    assert case["first_byte"] == 31
    suite = ET.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), len(suite.findall("testcase"))) == (str(COUNT), "2", COUNT)
    assert "## Replay: 2 differences" in markdown.read_text()
    assert "uint256 125" in markdown.read_text()


async def test_replay_counts_a_failure_where_there_was_an_answer(rig: Rig, replay: Replay, tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    done = await replay("others:moody", "--json", "--junit", str(junit))
    summary = done.json
    assert (done.code, summary["failed"], summary["skipped"], summary["equal"]) == (1, 1, 1, 4), done
    failures = ET.parse(junit).getroot().findall(".//failure")
    assert "no <price>" in " ".join(failure.get("message", "") for failure in failures)
    screen = await replay("others:moody")
    assert (screen.code, "failed, and answered before" in screen.out, "\x1b" in screen.out) == (1, True, False)


async def test_replay_takes_the_selected_tasks_alone(rig: Rig, replay: Replay) -> None:
    newest = (await replay("others:cubed", "--json", "--limit", "1")).json
    assert (newest["tasks"], newest["cases"][0]["task_index"]) == (1, COUNT - 1)
    assert (await replay("--json", "--sample", "3")).json["tasks"] == 3
    block = rig.query("SELECT min(block_number) FROM tasks")[0][0]
    for source in ("--from-ledger", "--chain"):
        chosen = (await replay(source, "--json", "--blocks", f"{block}..{block}", "--since", "1h")).json
        assert chosen["tasks"] >= 1, chosen
        none = await replay(source, "--blocks", "0..1")
        assert (none.code, "no task is selected" in none.err) == (64, True), none
    assert (await replay("--state", "final", "--json")).json["tasks"] == COUNT


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--blocks", "9..3"], 64, "no range of blocks"),
        (["--since", "the other day"], 64, "no time"),
        (["--chain", "--state", "final"], 64, "--state"),
        (["--junit", "/nowhere/at/all.xml"], 64, "cannot be written"),
        (["others:nothing"], 78, "nothing"),
        (["no_such_module:f"], 78, "no_such_module"),
    ],
)
async def test_replay_refuses_what_it_cannot_do(
    rig: Rig, replay: Replay, arguments: list[str], code: int, message: str
) -> None:
    done = await replay(*arguments)
    assert (done.code, message in done.err) == (code, True), done


async def test_replay_prints_json_alone_on_stdout(rig: Rig, replay: Replay) -> None:
    done = await replay("--json")
    assert json.loads(done.out)["source"] == "ledger"
