"""The commands as people and scripts use them: what they print, where, with which exit code, and what they refuse.

One daemon runs beside most of these tests over five tasks of different fates; the rest start from nothing.
"""

import asyncio
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import pytest_asyncio
import typer.main
from loguru import logger

from tests.system.daemon_rig import Daemon, Done, Rig, running_rig
from watcher.cli.main import application, run
from watcher.devnet.contract import response_digest
from watcher.state import State

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOOK = """
from watcher import Later, Skip, Task


def respond(task: Task) -> bytes | Skip | Later:
    number = int.from_bytes(task.message, "big")
    print("asked for", number)
    if number == 3:
        raise ValueError("no price for \\x1b[31m this")
    if number == 4:
        return Skip("not for us")
    if number == 5:
        return Later(seconds=3600, reason="ask me tomorrow")
    return (number * number).to_bytes(32, "big")
"""
FINAL, ALSO_FINAL, FAILED, SKIPPED, POSTPONED = range(5)
FATES = {FINAL: "final", ALSO_FINAL: "final", FAILED: "failed", SKIPPED: "skipped", POSTPONED: "ready"}
NOWHERE = 999


@dataclass
class Populated:
    """A rig, its daemon, and commands run in this process, which is quicker than one of their own each."""

    rig: Rig
    daemon: Daemon

    async def __call__(self, *arguments: str) -> Done:
        return await command(*arguments, "--config", str(self.rig.config))


async def command(*arguments: str) -> Done:
    """Exit code, stdout and stderr of one command line."""
    code = await asyncio.to_thread(run, arguments)
    assert _capture is not None
    captured = _capture.readouterr()
    assert "Traceback" not in (captured.err if arguments[:2] == ("hook", "try") else captured.out + captured.err)
    return Done(code, captured.out, captured.err)


_capture: pytest.CaptureFixture[str] | None = None


@pytest.fixture(autouse=True)
def _in_this_process(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[None]:
    """The environment of the rig, where there is one; and afterwards the log as it was."""
    global _capture
    for name in [*os.environ]:
        if name.startswith("WATCHER_") and name != "WATCHER_ANVIL":
            monkeypatch.delenv(name)
    if "populated" in request.fixturenames:
        for name, value in request.getfixturevalue("populated").rig.environment.items():
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    capfd.readouterr()
    _capture = capfd
    yield
    _capture = None
    logger.remove()
    logger.configure(patcher=lambda _: None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def populated(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Populated]:
    async with running_rig(tmp_path_factory.mktemp("commands"), window_blocks=5000) as rig:
        (rig.hook_folder / "fates.py").write_text(HOOK)
        rig.write_config(target="fates:respond")
        daemon = await rig.start(WATCHER_HOOK__MAX_ATTEMPTS="1")
        await rig.create(5)
        async with rig.mining(0.2):
            await rig.until(lambda: rig.states() == FATES, "each task has met its fate")
        yield Populated(rig, daemon)
        assert await daemon.stop() == 0


# -- help and usage ----------------------------------------------------------------------------------------------------


def _commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, subcommand in getattr(group, "commands", {}).items():
        yield from _commands(subcommand, *path, name)


EVERY_COMMAND = dict(_commands(typer.main.get_command(application())))


async def test_the_commands_are_those_that_are_promised() -> None:
    promised = {"demo", "devnet", "init", "check", "run", "prove", "tasks", "hook", "db", "version"}
    assert {path[0] for path in EVERY_COMMAND if path} >= promised
    assert {path[1] for path in EVERY_COMMAND if path[:1] == ("tasks",) and path[1:]} >= {
        "list",
        "show",
        "retry",
        "skip",
    }
    assert {path[1] for path in EVERY_COMMAND if path[:1] == ("db",) and path[1:]} >= {"upgrade", "check", "backup"}
    assert ("hook", "try") in EVERY_COMMAND


@pytest.mark.parametrize("path", EVERY_COMMAND, ids=" ".join)
async def test_every_command_and_every_option_is_explained(path: tuple[str, ...]) -> None:
    done = await command(*path, "--help")
    assert (done.code, done.err) == (0, "")
    explained: click.Command = EVERY_COMMAND[path]
    assert (explained.help or "").strip()
    assert " ".join(done.out.replace("│", " ").split()).count((explained.help or "").split()[0])
    for parameter in explained.params:
        if parameter.name not in ("install_completion", "show_completion", "help"):
            assert getattr(parameter, "help", ""), f"{path}: {parameter.name}"


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "run --nonsense", "tasks", "tasks lst", "tasks list --state done", "tasks show", "tasks show one",
        "tasks show -1",
        "tasks retry", "tasks skip", "hook try x", "db backup", "demo --tasks 0",
        "devnet --block-time 0",
    ],
)  # fmt: skip
async def test_a_wrong_command_line_is_refused_with_words(line: str) -> None:
    done = await command(*line.split())
    assert done.code == 64
    assert "nonsense" not in line or "nonsense" in done.err
    assert all(text.startswith("watcher: ") for text in done.err.splitlines())


async def test_without_a_command_the_help_is_shown_and_version_prints_one(tmp_path: Path) -> None:
    assert "Usage" in (await command()).out
    done = await command("version")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"\d+\.\d+\S*\n", done.out)


# -- listing -----------------------------------------------------------------------------------------------------------

HEX = r"0x([0-9a-f]{2})*"
WORD, ADDRESS = r"0x[0-9a-f]{64}", r"0x[0-9a-f]{40}"
# What `tasks list --json` promises: name, type, and whether it may be null.
TASK_FIELDS: Mapping[str, tuple[type | str, bool]] = {
    "chain_id": (int, False),
    "task_manager": (ADDRESS, False),
    "task_index": (int, False),
    "task_hash": (WORD, False),
    "state": (str, False),
    "task_created_block": (int, False),
    "deadline_block": (int, True),
    "block_number": (int, False),
    "block_hash": (WORD, False),
    "created_tx_hash": (WORD, False),
    "message": (HEX, False),
    "response": (HEX, True),
    "sig_hash": (WORD, True),
    "tx_hash": (WORD, True),
    "responded_tx_hash": (WORD, True),
    "attempts": (int, False),
    "error": (str, True),
}
PROOF_FIELDS: Mapping[str, type | str] = {
    "chain_id": int, "task_manager": ADDRESS, "block_number": int, "block_hash": WORD, "latest_task_num": int,
    "first_index": int, "known": int, "missing": list, "mismatched": list, "answered_by_us": int,
    "answered_otherwise": list, "expired": list, "open": list, "ok": bool,
}  # fmt: skip


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def assert_kind(name: str, value: Any, kind: type | str) -> None:
    if isinstance(kind, str):
        assert isinstance(value, str), name
        assert re.fullmatch(kind, value), f"{name}: {value}"
    else:
        assert type(value) is kind, f"{name}: {value!r}"


async def test_tasks_list_json_has_every_promised_field_of_the_promised_type(populated: Populated) -> None:
    done = await populated("tasks", "list", "--json")
    assert (done.code, done.err) == (0, "")
    tasks = done.json
    assert [task["task_index"] for task in tasks] == [0, 1, 2, 3, 4]
    for task in tasks:
        for name, (kind, may_be_null) in TASK_FIELDS.items():
            if not (may_be_null and task[name] is None):
                assert_kind(name, task[name], kind)
        assert State(task["state"]) == FATES[task["task_index"]]


async def test_what_tasks_list_says_of_an_answer_is_what_the_chain_says(populated: Populated) -> None:
    task = (await populated("tasks", "list", "--json")).json[FINAL]
    (answer,) = [answer for answer in await populated.rig.net.manager.answers() if answer.index == FINAL]
    assert task["message"] == "0x" + (1).to_bytes(32, "big").hex()
    assert task["response"] == "0x" + answer.message.hex() == "0x" + (1).to_bytes(32, "big").hex()
    assert task["responded_tx_hash"] == answer.tx_hash
    assert task["sig_hash"] == "0x" + response_digest(FINAL, answer.message).hex()
    assert (task["attempts"], task["error"], task["tx_hash"]) == (1, None, None)
    stored_task, stored_hash = await populated.rig.net.manager.task_at(FINAL, task["task_created_block"])
    assert stored_task is not None
    assert task["task_hash"] == "0x" + stored_hash.hex() == "0x" + stored_task.hash().hex()
    assert task["deadline_block"] == task["task_created_block"] + 5000


@pytest.mark.parametrize("state", list(State))
async def test_tasks_list_shows_one_state_only_when_asked(populated: Populated, state: State) -> None:
    done = await populated("tasks", "list", "--json", "--state", state)
    assert [entry["task_index"] for entry in done.json] == [index for index, fate in FATES.items() if fate == state]


async def test_the_table_for_people_has_every_task_and_no_control_character(populated: Populated) -> None:
    done = await populated("tasks", "list", "--columns", "task_index,state,error")
    assert (done.code, done.err) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if line.startswith("│")]
    assert [(int(row[0]), row[1]) for row in rows] == list(FATES.items())
    assert "no price for" in rows[FAILED][-1]
    assert "\x1b" not in done.out


async def test_tasks_show_tells_the_whole_story(populated: Populated) -> None:
    done = await populated("tasks", "show", str(FINAL), "--json")
    assert (done.code, done.err) == (0, "")
    (task,) = done.json
    assert set(TASK_FIELDS) <= set(task)
    assert [move["to"] for move in task["journal"]] == [
        "seen", "ready", "computed", "sending", "accepted", "responded", "final",
    ]  # fmt: skip
    assert all(
        before["to"] == after["from"] for before, after in zip(task["journal"], task["journal"][1:], strict=False)
    )
    assert [(attempt["kind"], attempt["outcome"]) for attempt in task["attempt_log"]] == [
        ("hook", "answered"),
        ("post", "accepted"),
    ]
    post = task["attempt_log"][1]
    assert post["http_status"] == 200
    assert re.fullmatch(WORD, post["request_digest"])
    assert b"sig_hash" in bytes.fromhex(post["answer"][2:])
    printed = await populated("tasks", "show", str(FAILED))
    assert (printed.code, printed.err) == (0, "")
    assert "no price for \\x1b[31m this" in printed.out.replace("\n", "")
    assert "\x1b" not in printed.out


@pytest.mark.parametrize("verb", ["show", "retry", "skip"])
@pytest.mark.parametrize("index", [NOWHERE, 2**32, 2**64, 2**256 - 1, 2**256, 2**300])
async def test_a_task_that_does_not_exist_is_refused_with_words(populated: Populated, verb: str, index: int) -> None:
    done = await populated("tasks", verb, str(index))
    assert (done.code, done.out) == (64, "")
    if index < 2**256:
        assert done.err == f"watcher: the ledger knows no task {index}; `watcher tasks list` shows what it knows\n"
    else:
        assert str(2**256 - 1) in done.err


async def test_a_task_may_be_named_as_hex_as_explorers_show_it(populated: Populated) -> None:
    for index in ("0x1", "0X" + "0" * 63 + "1"):
        assert (await populated("tasks", "show", index, "--json")).json[0]["task_index"] == 1
    for index in ("0x", "0xzz", "0x" + "0" * 65, "1_0", "1e3", "01x", " ", "0x1_0"):
        done = await populated("tasks", "show", index)
        assert (done.code, done.out) == (64, "")
        assert "in decimal or as 0x" in done.err


# -- a person's hand ---------------------------------------------------------------------------------------------------


async def test_a_failed_task_is_taken_up_again_and_the_daemon_notices(populated: Populated) -> None:
    before = len(populated.rig.query("SELECT id FROM attempts WHERE kind = 'hook'"))
    done = await populated("tasks", "retry", str(FAILED))
    assert (done.code, done.out, done.err) == (0, f"task {FAILED} is ready and due now\n", "")
    async with populated.rig.mining(0.2):
        await populated.rig.until(
            lambda: len(populated.rig.query("SELECT id FROM attempts WHERE kind = 'hook'")) > before,
            "it is tried again",
        )
        await populated.rig.until(lambda: populated.rig.state(FAILED) == "failed", "it fails again")
    assert "a person said to retry" in (await populated("tasks", "show", str(FAILED))).out


async def test_a_waiting_task_is_skipped_with_a_reason_and_taken_up_again(populated: Populated) -> None:
    done = await populated("tasks", "skip", str(POSTPONED), "--reason", "told\n\x1b[31mto")
    assert (done.code, done.out, done.err) == (0, f"task {POSTPONED} is skipped\n", "")
    assert populated.rig.state(POSTPONED) == "skipped"
    (task,) = (await populated("tasks", "show", str(POSTPONED), "--json")).json
    assert task["journal"][-1]["why"].startswith("a person said to skip: told\\n\\x1b[31mto (")
    before = len(populated.rig.query("SELECT id FROM attempts WHERE kind = 'hook'"))
    done = await populated("tasks", "retry", str(POSTPONED))
    assert (done.code, done.out) == (0, f"task {POSTPONED} is ready and due now\n")
    assert populated.rig.state(POSTPONED) == "ready"
    async with populated.rig.mining(0.2):
        await populated.rig.until(
            lambda: len(populated.rig.query("SELECT id FROM attempts WHERE kind = 'hook'")) > before,
            "the hook is asked",
        )


@pytest.mark.parametrize(("verb", "index"), [("retry", FINAL), ("skip", FINAL), ("skip", FAILED), ("skip", SKIPPED)])
async def test_what_the_chain_or_a_person_has_settled_is_left_alone(
    populated: Populated, verb: str, index: int
) -> None:
    done = await populated("tasks", verb, str(index))
    assert (done.code, done.out) == (64, "")
    assert re.fullmatch(rf"watcher: task {index} is {FATES[index]}: \w.*\n", done.err)
    assert populated.rig.state(index) == FATES[index]


# -- the proof ---------------------------------------------------------------------------------------------------------


async def test_prove_json_has_every_promised_field_of_the_promised_type(populated: Populated) -> None:
    done = await populated("prove", "--json")
    assert (done.code, done.err) == (0, "")
    for name, kind in PROOF_FIELDS.items():
        assert_kind(name, done.json[name], kind)
    assert (done.json["known"], done.json["answered_by_us"], done.json["open"]) == (5, 2, [FAILED, SKIPPED, POSTPONED])
    printed = await populated("prove")
    assert (printed.code, printed.err) == (0, "")
    assert re.search(r"proven\s+│\s+yes", printed.out)


MINE = """
kept = []

def echo(task):
    kept.append(bytearray(b"1" * (20 << 20)))
    return task.message

def wrong(task):
    def inner():
        return {}[3]
    try:
        inner()
    except KeyError as error:
        raise ValueError("no\x1b[31m") from error

def text(task):
    return "x"
"""


# -- the hook ----------------------------------------------------------------------------------------------------------


async def test_hook_try_says_what_the_hook_says_and_records_nothing(populated: Populated, tmp_path: Path) -> None:
    count = "SELECT (SELECT count(*) FROM attempts), (SELECT count(*) FROM journal)"
    before, requests = populated.rig.query(count), len(populated.rig.received())
    tasks = (await populated("tasks", "list", "--json")).json
    (tmp_path / "task.json").write_text(json.dumps(tasks[ALSO_FINAL]))
    (tmp_path / "shown.json").write_text((await populated("tasks", "show", str(SKIPPED), "--json")).out)
    answer = {"verdict": "answer", "response": "0x" + (4).to_bytes(32, "big").hex()}
    for arguments, code, expected in (
        ([str(ALSO_FINAL)], 0, answer),
        (["--message", "0x" + (2).to_bytes(32, "big").hex()], 0, answer),
        (["--file", str(tmp_path / "task.json")], 0, answer),
        (["--file", str(tmp_path / "shown.json")], 0, {"verdict": "skip", "reason": "not for us"}),
        ([str(POSTPONED)], 0, {"verdict": "later", "blocks": 0, "seconds": 3600, "reason": "ask me tomorrow"}),
        ([str(FAILED)], 1, {"verdict": "failed"}),
    ):
        done = await populated("hook", "try", "--json", *arguments)
        assert done.code == code, done.err
        assert expected.items() <= done.json.items()
        assert "asked for" in done.err  # what the hook prints is log, not data
        assert done.json["hook_version"].startswith("fates:respond@")
        assert done.json["run_ms"] > 0 and done.json["memory"]["peak_bytes"] >= done.json["memory"]["loaded_bytes"] > 0
        assert any("asked for" in line for line in done.json["output"])
        assert ("fates.py" in done.json["traceback"]) == (code == 1)
    people = await populated("hook", "try", str(ALSO_FINAL))
    assert re.search(r"verdict +answer\n +response +0x0+4\n", people.out)
    from_chain = await populated("hook", "try", "--json", "--chain", str(ALSO_FINAL))
    assert from_chain.json["response"] == answer["response"] and from_chain.json["task_index"] == ALSO_FINAL
    (tmp_path / "all.json").write_text(json.dumps(tasks))
    chosen = await populated("hook", "try", "fates:respond", str(SKIPPED), "--file", str(tmp_path / "all.json"))
    assert (chosen.code, chosen.out.split()[:2]) == (0, ["verdict", "skip"])
    assert populated.rig.query(count) == before
    assert len(populated.rig.received()) == requests


async def test_hook_try_needs_a_target_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    typed = await command("hook", "try", "mine:echo", "--abi", "(uint256,address)", "21", "0x" + "22" * 20, "--json")
    assert (typed.code, typed.json["response"][-40:], typed.json["answer"]["size_bytes"]) == (0, "22" * 20, 64)
    assert typed.json["message"]["value"] == [21, "0x" + "22" * 20]
    assert typed.json["memory"]["growth_bytes"] > 16 << 20
    for target, code, reason, trace in (
        ("mine:wrong", 1, "ValueError: no\\x1b", ["KeyError: 3", "ValueError: no\\x1b", "in inner"]),
        ("mine:text", 1, "the hook returned str", []),
        ("broken:respond", 78, "No module named 'nowhere'", ["import nowhere"]),
    ):
        (tmp_path / "broken.py").write_text("import nowhere\n")
        done = await command("hook", "try", target, "--message", "0x15")
        assert done.code == code and reason in done.out
        assert all(part in done.out for part in trace) and "watcher/hook" not in done.out and "\x1b" not in done.out
    missing = await command("hook", "try", "--message", "0x15")
    assert (missing.code, missing.out) == (78, "") and "name a TARGET" in missing.err
    short = await command("hook", "try", "mine:echo", "--abi", "(uint8,bool)", "3")
    assert (short.code, short.out) == (64, "")


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["0x1", "--message", "0x00"], ["--chain"], ["1", "2"], ["--abi", "(uint8)", "300"], ["--abi", "foo", "1"],
        ["1", "--chain", "--file", "/nowhere"], ["fates:respond", "x:y", "1"], ["--chain", str(NOWHERE)],
        [str(NOWHERE)], [str(2**64)], ["--message", "00"], ["--message", "0x0"],
        ["--message", "0xzz"], ["--message", ""], ["--file", "/nowhere"], ["--file", "/"],
    ],
    ids=" ".join,
)  # fmt: skip
async def test_hook_try_refuses_what_is_no_task(populated: Populated, arguments: list[str]) -> None:
    done = await populated("hook", "try", *arguments)
    assert (done.code, done.out) == (64, "")
    assert re.fullmatch(r"watcher: .*\w.*\n", done.err) and "ValueError" not in done.err


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "7", "null", "{}", '{"message": 5}', '{"message": null}', '{"message": ["0x00"]}',
        '{"message": "0x00", "task_index": "x"}', '{"message": "0x00", "deadline_block": "soon"}',
        '{"message": "0x00", "task_hash": 7}', '{"message": "0x00", "task_created_block": [1]}',
        '[{"message": "0x"}, {}]',
        "[" * 100_000, '{"message": "0x00", "quorum_threshold": 1e400}', "\ud800",
    ],
)  # fmt: skip
async def test_hook_try_refuses_a_file_that_holds_no_task(populated: Populated, tmp_path: Path, content: str) -> None:
    (tmp_path / "task.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    done = await populated("hook", "try", "--file", str(tmp_path / "task.json"))
    assert (done.code, done.out) == (64, "")
    assert re.fullmatch(r"watcher: .*\w.*\n", done.err)


# -- the ledger --------------------------------------------------------------------------------------------------------


async def test_a_backup_made_while_the_daemon_runs_opens_as_a_ledger(populated: Populated, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    done = await populated("db", "backup", str(copy))
    assert (done.code, done.err) == (0, "")
    assert str(copy) in done.out
    assert copy.stat().st_mode & 0o007 == 0
    assert [path.name for path in _inside(tmp_path)] == ["copy.db"]
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(populated.rig.config.read_text().replace(str(populated.rig.ledger), str(copy)))
    assert (await command("db", "check", "--config", str(elsewhere))).code == 0
    assert (await command("prove", "--config", str(elsewhere))).code == 0
    listed = await command("tasks", "list", "--json", "--config", str(elsewhere))
    assert {entry["task_index"]: entry["state"] for entry in listed.json} == populated.rig.states()


async def test_a_backup_overwrites_nothing_and_says_where_it_cannot_go(populated: Populated, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for target in (precious, tmp_path, tmp_path / "no" / "folder.db", populated.rig.ledger):
        done = await populated("db", "backup", str(target))
        assert done.code in (64, 78), done
        assert done.out == ""
        assert re.fullmatch(r"watcher: .*\w.*\n", done.err)
    assert precious.read_text() == "mine"
    assert not (tmp_path / "no").exists()


async def test_db_check_reads_every_page(populated: Populated, tmp_path: Path) -> None:
    done = await populated("db", "check", "--json")
    assert (done.code, done.err) == (0, "")
    revision = done.json["wanted"]
    assert done.json == {"current": revision, "wanted": revision, "damage": None, "miscounted": [], "ok": True}
    damaged, config = tmp_path / "damaged.db", tmp_path / "damaged.toml"
    assert (await populated("db", "backup", str(damaged))).code == 0
    config.write_text(populated.rig.config.read_text().replace(str(populated.rig.ledger), str(damaged)))
    content = bytearray(damaged.read_bytes())
    content[-3000:] = b"\xff" * 3000
    damaged.write_bytes(content)
    done = await command("db", "check", "--config", str(config))
    assert done.code == 1, done
    assert "damaged" in done.out


async def test_db_upgrade_refuses_a_running_daemon_and_makes_a_new_ledger(populated: Populated, tmp_path: Path) -> None:
    done = await populated("db", "upgrade")
    assert (done.code, done.out) == (75, "")
    assert str(populated.daemon.pid) in done.err
    config = tmp_path / "new.toml"
    config.write_text(populated.rig.config.read_text().replace(str(populated.rig.ledger), str(tmp_path / "new.db")))
    assert (await command("db", "check", "--config", str(config))).code == 75
    done = await command("db", "upgrade", "--config", str(config))
    assert (done.code, done.err) == (0, "")
    assert "from nothing" in done.out
    assert "nothing to do" in (await command("db", "upgrade", "--config", str(config))).out
    assert (await command("db", "check", "--config", str(config))).code == 0
    # As in the first seconds of a first run: nothing is misconfigured, and there is nothing to show yet.
    done = await command("tasks", "list", "--config", str(config))
    assert done.code == 75
    assert "the first `watcher run` begins it" in done.err
    assert sqlite3.connect(tmp_path / "new.db").execute("SELECT count(*) FROM tasks").fetchone() == (0,)


async def test_listing_asks_to_try_later_when_the_ledger_has_no_tables_yet(
    populated: Populated, tmp_path: Path
) -> None:
    (tmp_path / "fresh.db").touch()
    config = tmp_path / "fresh.toml"
    config.write_text(populated.rig.config.read_text().replace(str(populated.rig.ledger), str(tmp_path / "fresh.db")))
    for arguments in (("tasks", "list"), ("prove",)):
        assert (await command(*arguments, "--config", str(config))).code == 75


async def test_listing_is_refused_when_the_ledger_knows_only_other_contracts(
    populated: Populated, tmp_path: Path
) -> None:
    config = tmp_path / "other.toml"
    text = populated.rig.config.read_text()
    config.write_text(re.sub(r'address = "0x[0-9a-fA-F]{40}"', f'address = "0x{"11" * 20}"', text))
    done = await command("tasks", "list", "--config", str(config))
    assert done.code == 78
    assert "holds nothing of this contract" in done.err


# -- data and log ------------------------------------------------------------------------------------------------------


async def test_data_goes_to_stdout_and_the_log_to_stderr(populated: Populated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHER_LOG", "trace")
    monkeypatch.setenv("WATCHER_CHAIN__RPC_URLS", "http://127.0.0.1:9")
    done = await populated("check", "--json")
    assert done.code == 69
    assert {entry["what"]: entry["verdict"] for entry in done.json}["node"] == "wrong"
    assert "rpc.node_down" in done.err
    monkeypatch.setenv("WATCHER_LOG__FORMAT", "json")
    done = await populated("prove", "--json")
    assert (done.code, done.out) == (69, "")
    *log, printed = done.err.splitlines()
    assert [json.loads(line)["level"] for line in log]
    assert printed.startswith("watcher: ")


async def test_listing_tasks_imports_nothing_heavy(populated: Populated) -> None:
    """The figure for people: CPU seconds of a whole `watcher tasks list`, shown with -s."""
    program = (
        "import sys; from watcher.cli.main import run; code = run(sys.argv[1:]);"
        "print(*(name for name, module in sys.modules.items() if module), file=sys.stderr); sys.exit(code)"
    )
    command_line = [sys.executable, "-c", program, "tasks", "list", "--json", "--config", str(populated.rig.config)]
    for _ in range(2):  # the first may compile bytecode
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = await asyncio.to_thread(
            subprocess.run, command_line, capture_output=True, timeout=60, check=True, env=populated.rig.environment
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"watcher tasks list: {after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.2f} s of CPU")
    assert len(json.loads(done.stdout)) == 5
    packages = {name.partition(".")[0] for name in done.stderr.decode().split()}
    heavy = packages & {"web3", "alembic", "aiohttp", "httpx", "apscheduler", "eth_abi", "websockets", "hypothesis"}
    assert heavy == set()


# -- from nothing ------------------------------------------------------------------------------------------------------


async def test_init_writes_a_file_that_check_leads_through_to_the_end(
    populated: Populated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = await command("init")
    assert (done.code, done.err) == (0, "")
    written = (tmp_path / "watcher.toml").read_text()
    assert tomllib.loads(written)["task_manager"]["address"] == "0x" + "00" * 20
    refused = await command("check")
    assert (refused.code, refused.out) == (78, "")
    assert [line.split(": ")[1] for line in refused.err.splitlines()] == ["task_manager.address"]
    second = await command("init")
    assert (second.code, second.out) == (64, "")
    assert "--force" in second.err
    net = populated.rig.net
    for old, new in {
        '["http://127.0.0.1:8545", "ws://127.0.0.1:8545"]': f'["{net.rpc_url}", "{net.ws_url}"]',
        '"0x' + "00" * 20 + '"': f'"{net.task_manager}"',
        '"http://127.0.0.1:8902"': f'"{net.api_url}"',
        '"squaring:respond"': '"fates:respond"',
        '# app_dir = "."': f'app_dir = "{populated.rig.hook_folder}"',
    }.items():
        assert written.count(old) == 1, old
        written = written.replace(old, new)
    (tmp_path / "watcher.toml").write_text(written)
    done = await command("check", "--json")
    assert (done.code, {entry["verdict"] for entry in done.json}) == (0, {"ok"})
    assert (await command("init", "--force")).code == 0
    assert "0x" + "00" * 20 in (tmp_path / "watcher.toml").read_text()
    done = await command("init", "--config", str(tmp_path / "no" / "folder.toml"))
    assert (done.code, done.out) == (64, "")


@pytest.mark.parametrize(
    "line", ["tasks list", "tasks show 1", "tasks retry 1", "prove", "hook try 1", "db check", "db backup x.db"]
)
async def test_without_a_ledger_the_commands_say_who_makes_it(populated: Populated, tmp_path: Path, line: str) -> None:
    config = tmp_path / "watcher.toml"
    config.write_text(populated.rig.config.read_text().replace(str(populated.rig.ledger), str(tmp_path / "none.db")))
    done = await command(*line.split(), "--config", str(config))
    assert (done.code, done.out) == (75, "")
    assert "there is no ledger at" in done.err
    assert "docs/service.md" in done.err, "where a service has it is not where a person looks"
    assert [path.name for path in _inside(tmp_path)] == ["watcher.toml"]


async def test_unreadable_ledger_is_reported_with_the_reason_of_the_database(
    populated: Populated, tmp_path: Path
) -> None:
    (tmp_path / "none.db").mkdir()
    config = tmp_path / "watcher.toml"
    config.write_text(populated.rig.config.read_text().replace(str(populated.rig.ledger), str(tmp_path / "none.db")))
    done = await command("tasks", "list", "--config", str(config))
    assert (done.code, done.out) == (75, "")
    assert re.search(r"could not be read \(OperationalError: [a-zA-Z/ ]+\)", done.err), done.err


@pytest.mark.parametrize("line", ["tasks list", "check", "run", "prove", "db check"])
async def test_without_a_file_the_commands_say_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = await command(*line.split())
    assert (done.code, done.out) == (78, "")
    assert "watcher init" in done.err


async def test_the_devnet_prints_a_ready_configuration_and_ends_when_told(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "watcher", "devnet", "--directory", str(tmp_path), "--tasks-every", "0.2",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            printed = b""
            while b"# export WATCHER_OPERATOR__PASSWORD=" not in printed:
                line = await process.stdout.readline()
                assert line, "it ended before it was ready"
                printed += line
            process.send_signal(signal.SIGTERM)
            _, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err
    assert b"EMULATED" in printed
    settings = tomllib.loads(printed.decode())
    assert settings == tomllib.loads((tmp_path / "watcher.toml").read_text())
    assert set(settings) >= {"chain", "task_manager", "hook", "operator", "ledger"}


async def test_restored_old_copy_reads_on_and_sends_nothing_already_answered(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start()
        await rig.create(2)
        await rig.settle()
        copy = tmp_path / "copy.db"
        assert (await rig.command("db", "backup", str(copy))).code == 0
        answered = await rig.create(2)
        await rig.settle()
        (late,) = await rig.create()
        await rig.net.mine()
        await rig.until(lambda: rig.in_pool() == 5, "one more answer is on its way")
        await daemon.kill()
        for suffix in ("-wal", "-shm"):
            rig.ledger.with_name(rig.ledger.name + suffix).unlink(missing_ok=True)
        copy.replace(rig.ledger)
        await rig.net.mine()  # what was on its way arrives
        sent = len(rig.received())
        daemon = await rig.start()
        await rig.settle()
        assert {rig.state(index) for index in (*answered, late)} == {"final_other"}, (
            "the copy does not know our answers"
        )
        assert len(rig.received()) == sent, "nothing is sent for what is answered"
        (after,) = await rig.create()
        await rig.settle()
        assert rig.state(after) == "final"
        assert await daemon.stop() == 0
