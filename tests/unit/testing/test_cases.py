"""Recorded tasks as cases: every shape that the program prints, and clear errors for all else."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher.errors import FixConfiguration
from watcher.ledger.replay import PastTask
from watcher.report.payload import Decoder
from watcher.report.replay import Summary, compare
from watcher.state import State
from watcher.task import Response
from watcher.testing import make_task, replay_cases

TASK = {
    "chain_id": 17000,
    "task_manager": "0x" + "22" * 20,
    "task_index": 7,
    "task_hash": "0x" + "33" * 32,
    "state": "final",
    "task_created_block": 120,
    "deadline_block": 220,
    "block_number": 121,
    "block_hash": "0x" + "44" * 32,
    "created_tx_hash": "0x" + "55" * 32,
    "message": "0x2a",
    "response": "0x06e4",
    "quorum_numbers": "0x0001",
    "quorum_threshold": 67,
}


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "tasks.json"
    file.write_text(text)
    return file


def test_a_case_has_every_value_of_the_recorded_task(tmp_path: Path) -> None:
    (case,) = replay_cases(written(tmp_path, json.dumps([TASK])))
    task = case.task
    assert (case.response, case.state, str(case)) == (b"\x06\xe4", "final", "task-7")
    assert (task.chain_id, task.task_manager, task.task_index) == (17000, b"\x22" * 20, 7)
    assert (task.task_hash, task.message, task.created_block) == (b"\x33" * 32, b"\x2a", 120)
    assert (task.deadline_block, task.quorum_numbers, task.quorum_threshold) == (220, b"\x00\x01", 67)
    assert (task.seen_at.block_number, task.seen_at.block_hash) == (121, b"\x44" * 32)
    assert task.seen_at.tx_hash == b"\x55" * 32


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TASK),
        json.dumps([TASK], indent=2),
        json.dumps(TASK) + "\n" + json.dumps(TASK) + "\n\n",
        "\ufeff" + json.dumps([TASK]),
        json.dumps([{**TASK, "task_index": str(2**256 - 1), "unknown": [1]}]),
        json.dumps([{"message": "0x2a", "response": "0x06e4"}]),
    ],
)
def test_every_form_of_a_file_is_read(tmp_path: Path, text: str) -> None:
    cases = replay_cases(written(tmp_path, text))
    assert {(case.task.message, case.response) for case in cases} == {(b"\x2a", b"\x06\xe4")}


def test_tasks_without_an_answer_are_cases_on_demand(tmp_path: Path) -> None:
    file = written(tmp_path, json.dumps([TASK, {**TASK, "response": None, "state": "skipped"}]))
    assert len(replay_cases(file)) == 1
    assert [case.response for case in replay_cases(file, answered_only=False)] == [b"\x06\xe4", None]


def test_the_differences_of_a_replay_are_cases(tmp_path: Path) -> None:
    summary = Summary("hook:respond", "1", "ledger")
    past = PastTask(1, make_task(b"\x02", task_index=5), State.FINAL, b"\x04", None, None)
    summary.add(compare(past, Response(b"\x05", "1", 1), Decoder()))
    (case,) = replay_cases(written(tmp_path, json.dumps(summary.as_json())))
    assert (case.task.task_index, case.task.message, case.response) == (5, b"\x02", b"\x04")
    assert case.task.task_hash == past.task.task_hash


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"message": None}, "task 1: message is missing"),
        ({"message": "2a"}, 'task 1: message is "2a", not bytes as 0x'),
        ({"message": "0x2 "}, "not bytes as 0x"),
        ({"response": 5}, "task 1: response is 5, not bytes"),
        ({"task_hash": "0x00"}, 'task_hash is "0x00", not 32 bytes'),
        ({"task_index": -1}, "task_index is -1, not a whole number"),
        ({"task_index": True}, "task_index is true"),
        ({"task_index": "x" * 500}, "task_index is"),
        ({"chain_id": 1.5}, "chain_id is 1.5"),
        ({"fields": 1}, "fields is not an object"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(FixConfiguration) as caught:
        replay_cases(written(tmp_path, json.dumps([{**TASK, **change}])))
    assert problem in str(caught.value) and str(caught.value).startswith("tasks.json: ")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["", "nonsense", "[1]", "[" * 100_000, '{"a": NaN}', "\x00"])
def test_what_holds_no_task_is_refused(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    if text == "":
        assert replay_cases(file) == []
    else:
        with pytest.raises(FixConfiguration):
            replay_cases(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FixConfiguration, match=r"nothing\.json: does not exist"):
        replay_cases(tmp_path / "nothing.json")


values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


@fuzzed
@given(st.dictionaries(st.sampled_from([*TASK, "fields"]), values, max_size=8))
def test_any_object_is_a_case_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, change: Any) -> None:
    file = written(tmp_path_factory.mktemp("case"), json.dumps([{**TASK, **change}]))
    with suppress(FixConfiguration):
        replay_cases(file)
