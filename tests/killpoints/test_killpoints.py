"""A sample of all points at which the daemon can be killed or its disk can fail, and proof that the verdict sees."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.killpoints import verdict
from tests.killpoints.rig import Rig
from tests.killpoints.run import Campaign, sample, strace_works, table

# A point costs a second of processor; these are two of each kind. `make killpoints` tries all.
SAMPLE = 30
SEED = 20261122

pytestmark = pytest.mark.skipif((why := strace_works()) is not None, reason=str(why))


@pytest.mark.timeout(1200)
def test_any_last_call_loses_nothing_and_answers_nothing_twice() -> None:
    with Campaign(workers=1) as campaign:
        trials = list(campaign.strike(sample(campaign.every(), SAMPLE, SEED), 18, print))
    print(table(trials))
    assert [(str(trial.point), trial.wrongs) for trial in trials if trial.wrongs] == []
    assert len(trials) == SAMPLE
    assert sum(trial.struck for trial in trials) > SAMPLE // 2, "too many points lie behind the end of the run"
    assert {trial.point.act for trial in trials if trial.struck} == {"KILL", "EIO", "EIO x20", "ENOSPC", "ENOSPC x20"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run leaves behind."""
    folder = tmp_path_factory.mktemp("killpoints")
    Rig(folder).count()
    return folder / "count"


def test_a_ledger_that_was_closed_is_one_file(finished: Path) -> None:
    left_bytes = finished.joinpath("ledger.db-wal").stat().st_size  # who reads it makes the file anew, empty
    assert left_bytes == 0, "an auditor who may not write could not read it"


def _tampered(finished: Path, to: Path, statement: str) -> Path:
    for name in ("ledger.db", "posts"):
        (to / name).write_bytes((finished / name).read_bytes())
    with closing(sqlite3.connect(to / "ledger.db")) as ledger:
        assert ledger.execute(statement).rowcount > 0
        ledger.commit()
    return to


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM tasks WHERE task_index = 7", "holds 19 tasks"),
        ("UPDATE tasks SET response = x'00' WHERE task_index = 7", "the answers sent are"),
        ("UPDATE tasks SET state = 'accepted' WHERE task_index = 7", "ended as accepted"),
        ("DELETE FROM attempts WHERE kind = 'post'", "without an attempt"),
        ("DELETE FROM journal WHERE id = 40", "a move from"),
    ],
)
def test_a_ledger_that_was_tampered_with_is_found_out(
    finished: Path, tmp_path: Path, statement: str, message: str
) -> None:
    assert verdict.ended(finished) == []
    wrongs = verdict.ended(_tampered(finished, tmp_path, statement))
    assert any(message in wrong for wrong in wrongs), wrongs


@pytest.mark.parametrize(
    ("verb", "breaks"),
    [
        (["read", 5], "UPDATE sources SET cursor_block = 4"),
        (["answer", 7, ""], "UPDATE tasks SET response = NULL WHERE task_index = 7"),
        (["begun", 7, 1], "DELETE FROM attempts WHERE kind = 'post'"),
        (["settled", 7, 1], "UPDATE attempts SET ended_at_ms = NULL"),
    ],
)
def test_an_acknowledgement_that_was_lost_is_found_out(
    finished: Path, tmp_path: Path, verb: list[object], breaks: str
) -> None:
    if verb[0] == "answer":
        with closing(sqlite3.connect(finished / "ledger.db")) as ledger:
            verb = [*verb[:2], ledger.execute("SELECT response FROM tasks WHERE task_index = 7").fetchone()[0].hex()]
    assert verdict.kept(finished, [verb]) == []
    assert verdict.kept(_tampered(finished, tmp_path, breaks), [verb]) == [
        f"acknowledged and lost: {verb[0]} {verb[1:]}"
    ]
