"""A replayed task beside its past: which result counts as a difference, and the reports made of many."""

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.rig import make_task
from watcher.errors import AttemptFailed, TryLater
from watcher.ledger.replay import PastTask
from watcher.report.payload import Decoder
from watcher.report.replay import KEPT_LIMIT, Replayed, Result, Summary, Timing, compare, replay
from watcher.report.replay_files import JUnitFile, markdown
from watcher.state import State
from watcher.task import Later, Response, Skip, Task

A, B, C = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
R = Result


def past(index: int = 0, recorded: bytes | None = A, accepted: bytes | None = A, state: str = State.FINAL) -> PastTask:
    return PastTask(index + 1, make_task(index), state, recorded, accepted, 7)


def answer(data: bytes) -> Response:
    return Response(data, "hook 2", 3)


@pytest.mark.parametrize(
    ("before", "result", "expected", "counts"),
    [
        (past(), answer(A), R.EQUAL, False),
        (past(), answer(B), R.DIFFERENT, True),
        (past(accepted=None), answer(A), R.EQUAL, False),
        (past(accepted=B), answer(A), R.EQUAL, False),
        (past(accepted=B), answer(B), R.EQUAL, False),
        (past(accepted=B), answer(C), R.DIFFERENT, True),
        (past(recorded=None, accepted=B), answer(A), R.DIFFERENT, True),
        (past(recorded=None, accepted=None), answer(A), R.NEW, False),
        (past(), Skip("not ours"), R.SKIPPED, True),
        (past(recorded=None, accepted=None, state=State.SKIPPED), Skip(), R.EQUAL, False),
        (past(recorded=None, accepted=None), Skip(), R.SKIPPED, False),
        (past(), Later(blocks=3), R.LATER, True),
        (past(), AttemptFailed("ValueError"), R.FAILED, True),
        (past(recorded=None, accepted=None, state=State.FAILED), AttemptFailed("ValueError"), R.FAILED, False),
    ],
)
def test_result_counts_when_an_answered_task_comes_out_otherwise(
    before: PastTask, result: Response | Skip | Later | AttemptFailed, expected: Result, counts: bool
) -> None:
    replayed = compare(before, result, Decoder())
    assert (replayed.result, replayed.counts) == (expected, counts)


def test_difference_names_the_first_byte_and_cuts_long_answers() -> None:
    old, new = bytes(100_000), bytes(99) + b"\x01" + bytes(99_900)
    replayed = compare(past(recorded=old), answer(new), Decoder())
    assert replayed.first_byte == 99
    assert replayed.answer is not None
    assert (replayed.answer.size_bytes, len(replayed.answer.hex) < 10_000) == (100_000, True)
    assert compare(past(recorded=b"ab", accepted=None), answer(b"abc"), Decoder()).first_byte == 2


def test_typed_answers_are_shown_decoded() -> None:
    decoder = Decoder("uint256", lambda data: int.from_bytes(data))
    replayed = compare(past(), answer((21).to_bytes(32, "big")), decoder)
    assert replayed.answer is not None
    assert replayed.answer.text == "21 (uint256)"


def test_timing_gives_percentiles_to_two_digits() -> None:
    timing = Timing()
    assert timing.percentiles() == {"p50": None, "p90": None, "p99": None}
    for duration_ms in range(1, 101):
        timing.add(duration_ms)
    assert timing.percentiles() == {"p50": 50, "p90": 90, "p99": 99}
    for duration_ms in range(100_000):
        timing.add(duration_ms)
    assert len(timing.counts) < 500


def test_summary_keeps_a_bounded_number_of_differences() -> None:
    summary = Summary("t", "v", "ledger")
    for index in range(KEPT_LIMIT + 5):
        summary.add(compare(past(index), answer(B), Decoder()))
    fields = summary.as_json()
    assert (summary.ok, fields["differences"], fields["cases_left_out"]) == (False, KEPT_LIMIT + 5, 5)
    assert len(fields["cases"]) == KEPT_LIMIT


async def test_replay_takes_no_more_tasks_than_it_runs() -> None:
    taken, ended = 0, 0

    async def tasks() -> AsyncIterator[PastTask]:
        nonlocal taken
        for index in range(500):
            taken += 1
            yield past(index)

    async def run_hook(task: Task) -> Response:
        assert taken - ended <= 4
        await asyncio.sleep(0)
        return answer(A)

    results: list[Replayed] = []

    def listener(replayed: Replayed) -> None:
        nonlocal ended
        ended += 1
        results.append(replayed)

    await replay(tasks(), run_hook, Decoder(), 4, listener)
    assert sorted(replayed.task_index for replayed in results) == list(range(500))


async def test_replay_ends_when_no_hook_can_run() -> None:
    async def tasks() -> AsyncIterator[PastTask]:
        for index in range(10):
            yield past(index)

    async def run_hook(task: Task) -> Response:
        raise TryLater("no worker can be started")

    with pytest.raises(TryLater, match="no worker"):
        await replay(tasks(), run_hook, Decoder(), 2, lambda _replayed: None)


def test_reports_hold_hostile_texts_harmlessly(tmp_path: Path) -> None:
    hostile = "]]> <b> & \x00 \ud800 | ` \x1b[31m \u202e"
    summary = Summary(f"a:{hostile}", hostile, "ledger")
    path = tmp_path / "junit.xml"
    with JUnitFile(path) as cases:
        for case in (past(0), past(1, recorded=None, accepted=None)):
            replayed = compare(case, AttemptFailed(hostile), Decoder())
            summary.add(replayed)
            cases.add(replayed)
        cases.write(summary)
    suite = ET.parse(path).getroot()[0]
    assert [suite.get(name) for name in ("tests", "failures", "skipped")] == ["2", "1", "0"]
    lines = list(markdown(summary))
    assert all(line.isprintable() for line in lines)
    assert not any("<b>" in line for line in lines)
