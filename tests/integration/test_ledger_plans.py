"""Due work is found through the partial index: a ledger with years of finished tasks is as quick as a new one.

The statements are those the code really sends, caught on their way to SQLite, with the parameters they carry.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER, header, make_response, make_task
from tests.kit.clocks import SetClock
from tests.kit.statements import noted
from watcher.ledger import (
    claims,
    finality,
    ingest,
    journal_range,
    outcomes,
    overview,
    queries,
    schema,
    sending,
    shadow,
    stats,
)
from watcher.ledger.engine import open_engine
from watcher.ledger.replay import Selection, past_page
from watcher.ledger.source import open_source
from watcher.ledger.story import source_record, task_records
from watcher.ledger.transaction import Tx
from watcher.state import State
from watcher.task import Header, OpenTask

NOW_MS = SetClock().now_ms()


@pytest.fixture(scope="module", params=["without statistics", "with statistics"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A ledger with many finished tasks and a few open ones."""
    url = URL.create("sqlite", database=str(tmp_path_factory.mktemp("plans") / "watcher.db"))
    schema.upgrade(url)
    opened = open_engine(url)
    with opened.begin() as conn:
        tx = Tx(conn, NOW_MS)
        source = open_source(tx, CHAIN_ID, MANAGER, 100).source_id
        tasks = [make_task(index) for index in range(3_000)]
        answered = [make_response(index, 105) for index in (5, *range(20, 3_000))]
        ingest.record(tx, source, tasks, answered, header(110), 110)
        conn.execute(text("UPDATE tasks SET state = 'final', look_again = 0 WHERE task_index >= 20"))
        conn.execute(text("UPDATE tasks SET state = 'ready' WHERE task_index < 10"))
        conn.execute(text("UPDATE tasks SET state = 'accepted' WHERE task_index = 10"))
        if request.param == "with statistics":
            conn.execute(text("ANALYZE"))
    yield opened
    opened.dispose()


def statements(engine: Engine, ask: Callable[[Connection], Any]) -> tuple[Any, list[tuple[str, Any]]]:
    """What a question answers, and what it sent to the database."""
    sent: list[tuple[str, Any]] = []

    catching = noted(lambda _conn, statement, parameters: sent.append((statement, parameters)), engine)
    with catching, engine.connect() as conn:
        answer = ask(conn)
        conn.rollback()
    return answer, [(statement, parameters) for statement, parameters in sent if "tasks" in statement]


def plan(engine: Engine, statement: str, parameters: Any) -> list[str]:
    with engine.connect() as conn:
        return [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]


def claim(conn: Connection) -> list[OpenTask]:
    return claims.claim(Tx(conn, NOW_MS), 1, [State.READY, State.COMPUTED, State.WAITING], 100, 1_000)


def finalise(conn: Connection) -> int:
    finality.finalise(Tx(conn, NOW_MS), 1, Header(99, bytes(32), b""))
    return 0


QUESTIONS: dict[str, tuple[Callable[[Connection], Any], int]] = {
    "claim": (lambda conn: len(claim(conn)), 10),
    "to_admit": (lambda conn: len(outcomes.to_admit(conn, 1, 2, NOW_MS, 100)), 9),
    "to_confirm": (lambda conn: len(outcomes.to_confirm(conn, 1, NOW_MS, 100)), 1),
    "past_deadline": (lambda conn: len(outcomes.past_deadline(conn, 1, NOW_MS, 100)), 0),
    "to_finalise": (lambda conn: len(outcomes.to_finalise(conn, 1, NOW_MS, 100)), 0),
    "standing": (lambda conn: queries.counts(conn, 1).open_tasks, 20),
    "bound_by_time": (lambda conn: queries.bound_by_time(conn, 1, NOW_MS), 0),
    "rescue": (lambda conn: sending.recover_stale(Tx(conn, NOW_MS), 1, all_of_them=False), 0),
    "rescue at start": (lambda conn: sending.recover_stale(Tx(conn, NOW_MS), 1, all_of_them=True), 0),
    "finalise": (finalise, 0),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_open_tasks_are_found_through_the_partial_index_alone(engine: Engine, name: str) -> None:
    ask, expected = QUESTIONS[name]
    answer, sent = statements(engine, ask)
    assert answer == expected
    assert sent, "it asked about tasks"
    steps = [step for statement, parameters in sent for step in plan(engine, statement, parameters)]
    about_tasks = [step for step in steps if "tasks" in step.split()]
    assert about_tasks
    for step in about_tasks:
        assert step.startswith("SEARCH"), steps
        assert any(index in step for index in ("ix_tasks_open", "ix_tasks_look_again", "INTEGER PRIMARY KEY")), steps
    assert any("ix_tasks_open" in step for step in about_tasks)


def test_counting_what_is_open_reads_the_index_and_not_the_table(engine: Engine) -> None:
    _, ((statement, parameters),) = statements(engine, QUESTIONS["standing"][0])
    (step,) = plan(engine, statement, parameters)
    assert "COVERING INDEX ix_tasks_open" in step


def test_what_events_name_is_found_by_its_index_and_so_are_the_events(engine: Engine) -> None:
    named_tasks, sent = statements(engine, lambda conn: outcomes.to_look_again(conn, 1, 100))
    assert [named.task.task.task_index for named in named_tasks] == [5]
    (named, events) = (plan(engine, statement, parameters) for statement, parameters in sent)
    slow = ("SCAN tasks", "SCAN responses", "USE TEMP B-TREE")
    assert not any(step.startswith(slow) for step in (*named, *events)), (named, events)
    assert any("ix_tasks_look_again" in step for step in named)
    assert any("ix_responses_task" in step for step in events)


STORY_AND_REPLAY: dict[str, Callable[[Connection], Any]] = {
    "task_records": lambda conn: len(task_records(conn, 1, 30)),
    "source_record": lambda conn: source_record(conn, 1).cursor.source_id,
    "past_page": lambda conn: len(past_page(conn, 1, Selection(), 2000, 10)) // 10,
}


@pytest.mark.parametrize("name", STORY_AND_REPLAY)
def test_story_and_replay_read_their_rows_by_index(engine: Engine, name: str) -> None:
    answer, sent = statements(engine, STORY_AND_REPLAY[name])
    assert answer == 1
    for statement, parameters in sent:
        steps = plan(engine, statement, parameters)
        tables = {step.split()[1] for step in steps if step.startswith("SCAN ")}
        assert not tables & {"tasks", "attempts", "journal", "responses"}, steps


def test_a_known_task_is_looked_up_by_its_identity(engine: Engine) -> None:
    """Recording reads and writes by (source, index), however many tasks there are."""

    def record(conn: Connection) -> int:
        return len(ingest.record(Tx(conn, NOW_MS), 1, [make_task(7)], [make_response(7, 105)], header(111), 111))

    _, sent = statements(engine, record)
    for statement, parameters in sent:
        for step in plan(engine, statement, parameters):
            assert "SCAN" not in step, step


NEWEST: dict[str, Callable[[Connection], Any]] = {
    "unshown": lambda conn: stats.unshown(conn, 1),
    "moves": lambda conn: journal_range.transitions_between(conn, 1, 0, 10),
    "attempts": lambda conn: overview.attempts_page(conn, 1, None, None, None, 10),
    "shadow": lambda conn: shadow.waiting(conn, 1, 0, 10),
    "surplus": lambda conn: shadow.surplus(conn, 1, 0),
}


@pytest.mark.parametrize("name", NEWEST)
def test_newest_rows_are_found_alone_whatever_the_statistics_say(engine: Engine, name: str) -> None:
    """As after an ANALYZE of a ledger of a million tasks, by its operator."""
    with engine.connect() as conn:
        conn.execute(text("ANALYZE"))
        conn.execute(text("UPDATE sqlite_stat1 SET stat = '1000000 1000000 1 1' WHERE tbl = 'tasks'"))
        conn.execute(text("UPDATE sqlite_stat1 SET stat = '7000000 7' WHERE tbl IN ('journal', 'attempts')"))
        conn.execute(text("ANALYZE sqlite_schema"))
        catching: list[tuple[str, Any]] = []
        with noted(lambda _conn, statement, parameters: catching.append((statement, parameters)), engine):
            NEWEST[name](conn)
        plans = [
            row[3]
            for statement, parameters in catching
            if statement.startswith("SELECT")
            for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
        conn.rollback()
    assert plans
    assert not [step for step in plans if step.startswith(("BLOOM", "SCAN tasks", "SCAN attempts", "SCAN journal"))], (
        plans
    )
