"""Nothing grows with the ledger: a question or a verb costs as much in a ledger of 200,000 tasks as in one of 10,000.

The cost is counted in steps of SQLite's virtual machine, which do not depend on the machine. tests/conformance looks at
the plan of each statement besides.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.conformance.rig import CHAIN_ID, MANAGER, make_response, make_task
from tests.kit.clocks import SetClock
from tests.kit.filled import OPEN_TASKS, Filled, fill
from tests.kit.plans import counted_steps
from watcher.ledger import (
    absences,
    backfill,
    by_index,
    claims,
    coverage,
    ended,
    finality,
    finding,
    ingest,
    journal_range,
    known_sources,
    manual,
    marks,
    outcomes,
    pauses,
    queries,
    reorg,
    rescan,
    restore,
    retention,
    sending,
    source,
    stats,
    wakes,
)
from watcher.ledger.engine import open_engine
from watcher.ledger.history import history
from watcher.ledger.retention import Age
from watcher.ledger.transaction import Tx
from watcher.state import State
from watcher.task import Header

NOW_MS = SetClock().now_ms() + 1000
_RATIO = 1.5
_LISTED = (State.FINAL, State.FAILED, State.EXPIRED, State.RESPONDED, State.BLOCKED)
_SLACK = 20  # ticks: a deeper tree, another mix of end states
Drive = Callable[[Tx, Filled], Any]


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Engine, Filled]]]:
    folder = tmp_path_factory.mktemp("growth")
    filled = [fill(folder / f"{tasks}.db", tasks) for tasks in (10_000, 200_000)]
    opened = [(open_engine(ledger.url), ledger) for ledger in filled]
    yield opened
    for engine, _ in opened:
        engine.dispose()


def above(ledger: Filled, blocks: int = 0) -> Header:
    """Return the block so many below the head."""
    return Header(ledger.head_block - blocks, b"\1" * 32, b"")


def record(tx: Tx, ledger: Filled) -> Any:
    new = [make_task(ledger.tasks + n, block=ledger.head_block + 1) for n in range(5)]
    answers = [make_response(ledger.tasks - n, ledger.head_block + 1) for n in range(1, 6)]
    return len(ingest.record(tx, 1, new, answers, above(ledger, -1), ledger.head_block + 1))


def rescan_blocks(tx: Tx, ledger: Filled) -> Any:
    answers = [make_response(ledger.tasks - n, ledger.head_block) for n in range(1, 6)]
    return len(rescan.record_rescan(tx, 1, rescan.FINAL, [make_task(ledger.tasks - 7)], answers, 100)[1])


def take_finality_back(tx: Tx, ledger: Filled) -> Any:
    tx.conn.execute(text("UPDATE sources SET firm_block = NULL"))
    return reorg.rewind(tx, 1, above(ledger, ledger.head_block - ledger.final_block + 10))


def retain(tx: Tx, ledger: Filled) -> Any:
    """A batch of a ledger whose older tasks are exported."""
    upto = retention.mark(tx.conn)
    stories = retention.stories(tx.conn, 1, Age(blocks=0), upto, ledger.tasks - 5000, 100)
    return len(stories), retention.remove(tx, [story.task.id for story in stories], upto)


def claim(tx: Tx, ledger: Filled) -> Any:
    states = [State.READY, State.COMPUTED, State.WAITING]
    return len(claims.claim(tx, 1, states, 100, 1000))


def finish(tx: Tx, ledger: Filled) -> Any:
    tx.conn.execute(text("UPDATE sources SET final_block = head_block"))
    batch = outcomes.to_finalise(tx.conn, 1, NOW_MS, 100)
    moved = outcomes.final(tx, batch, above(ledger))
    ended.keep_counts(tx)
    return len(moved), ended.kept(tx.conn, 1)[State.FINAL] > 0


def follow(tx: Tx, ledger: Filled) -> Any:
    last = journal_range.last_move(tx.conn)
    between = journal_range.transitions_between(tx.conn, 1, last - 100, last)
    return len(between.lines) + sum(between.counts.values())


def find_holes(tx: Tx, ledger: Filled) -> Any:
    before = coverage.covered(tx.conn, 1, 0)
    coverage.extend(tx, 1, 0, ledger.tasks, before.losses)
    coverage.lose(tx, 1, ledger.tasks - 5)
    return ledger.tasks - coverage.covered(tx.conn, 1, 0).next_index


def page_of(state: State | None) -> Drive:
    """The first page of a list, and the next."""

    def pages(tx: Tx, _ledger: Filled) -> Any:
        first = queries.task_page(tx.conn, 1, state, None, 20)
        return len(first), len(queries.task_page(tx.conn, 1, state, first[-1], 20))

    return pages


def find(**filters: Any) -> Drive:
    """The first tasks that match."""
    return lambda tx, _: len(finding.matching(tx.conn, 1, finding.TaskFilter(**filters), 20))


def find_newest(tx: Tx, ledger: Filled) -> Any:
    """The tasks of the last blocks and of the last seconds, also with a common state."""
    blocks = finding.TaskFilter(first_block=ledger.head_block - 3)
    common = finding.TaskFilter(state=State.FINAL, first_block=ledger.final_block - 3, last_block=ledger.final_block)
    return [len(finding.matching(tx.conn, 1, filter_)) > 0 for filter_ in (blocks, common)]


DRIVES: dict[str, Drive] = {
    "record": record,
    "rewind": lambda tx, ledger: reorg.rewind(tx, 1, above(ledger, 1)),
    "rewind of ten blocks": lambda tx, ledger: reorg.rewind(tx, 1, above(ledger, 10)),
    "unread": lambda tx, ledger: reorg.unread(tx, 1, above(ledger, 2), above(ledger, 2)),
    "take finality back": take_finality_back,
    "finalise": lambda tx, ledger: finality.finalise(tx, 1, Header(ledger.final_block + 1, bytes(32), b"")),
    "lower head": lambda tx, ledger: marks.lower_head(tx, 1, ledger.head_block - 1),
    "rescan": rescan_blocks,
    "request rescan": lambda tx, ledger: rescan.request_rescan(tx, 1, rescan.FINAL, ledger.final_block),
    "claim": claim,
    "make due": lambda tx, _: claims.make_due(tx, 1, [State.BLOCKED], "parked"),
    "recover": lambda tx, _: sending.recover_stale(tx, 1, all_of_them=True),
    "wake": lambda tx, _: wakes.wake_due(tx, 1),
    "to admit": lambda tx, _: len(outcomes.to_admit(tx.conn, 1, 2, NOW_MS, 100)),
    "to confirm": lambda tx, _: len(outcomes.to_confirm(tx.conn, 1, NOW_MS, 100)),
    "past deadline": lambda tx, _: len(outcomes.past_deadline(tx.conn, 1, NOW_MS, 100)),
    "look again": lambda tx, _: len(outcomes.to_look_again(tx.conn, 1, 100)),
    "finish": finish,
    "ended lately": lambda tx, _: len(absences.ended_lately(tx.conn, 1, 20)),
    "withdraw": lambda tx, ledger: absences.withdraw(tx, 1, [make_response(ledger.tasks - 9, ledger.head_block)]),
    "skip": lambda tx, ledger: manual.skip(tx, 1, ledger.tasks - OPEN_TASKS, ""),
    "reset deadlines": lambda tx, _: source.reset_deadlines(tx, 1, 200, shorten=False),
    "open source": lambda tx, _: source.open_source(tx, CHAIN_ID, MANAGER, 100).source_id,
    "restart pauses": lambda tx, _: pauses.restart_pauses(tx, 1),
    "shift pending": lambda tx, _: pauses.shift_pending(tx, 1, 1000),
    "held to": lambda tx, _: restore.held_to(tx.conn, 1),
    "work": lambda tx, _: len(stats.work(tx.conn, 1, NOW_MS, 10).open_by_state),
    "ended": lambda tx, _: len(stats.ended(tx.conn, 1)[0]),
    "follow": follow,
    "unshown": lambda tx, _: stats.unshown(tx.conn, 1).count,
    "finality broken": lambda tx, _: stats.finality_broken(tx.conn, 1),
    "count by state": lambda tx, _: len(queries.count_by_state(tx.conn, 1)),
    "counts": lambda tx, _: queries.counts(tx.conn, 1).open_tasks,
    "bound by time": lambda tx, _: queries.bound_by_time(tx.conn, 1, NOW_MS),
    "rest": lambda tx, _: queries.rest_s(tx.conn, 1, [State.READY], NOW_MS, 5.0),
    "brought by": lambda tx, _: len(queries.brought_by(tx.conn, 1, "proxy", 500)),
    "holes": find_holes,
    "lowest": lambda tx, _: by_index.lowest(tx.conn, 1),
    "neighbours": lambda tx, ledger: len(by_index.neighbours(tx.conn, 1, ledger.tasks // 2)),
    "known indices": lambda tx, ledger: len(by_index.known_indices(tx.conn, 1, ledger.tasks - 500, ledger.tasks)),
    "beyond the count": lambda tx, ledger: len(by_index.canonical_from(tx.conn, 1, ledger.tasks - 5, 10)),
    "newest open": lambda tx, _: len(queries.newest_open(tx.conn, 1, 50)),
    "beginning": lambda tx, _: known_sources.beginning(tx.conn, CHAIN_ID, MANAGER) is not None,
    "history": lambda tx, _: history(tx.conn, 1),
    "a task": lambda tx, ledger: len(queries.tasks_at(tx.conn, 1, ledger.tasks - 5000)),
    "a story": lambda tx, ledger: [len(rows) for rows in queries.story_of(tx.conn, ledger.tasks - 4999)],
    "proof": lambda tx, ledger: len(by_index.canonical_between(tx.conn, 1, ledger.tasks - 500, ledger.tasks)),
    "events of the proof": lambda tx, ledger: len(by_index.responses_between(tx.conn, 1, ledger.tasks - 99, 10**9)),
    "recent events": lambda tx, _: len(queries.recent_events(tx.conn, 1)),
    "retain": retain,
    "untimed blocks": lambda tx, _: len(backfill.untimed(tx.conn, 1, -1, 20)),
    "responses without sender": lambda tx, _: len(backfill.unsent(tx.conn, 1, -1, 20)),
    "find newest": find_newest,
    "find all": find(),
    **{f"find {state}": find(state=state) for state in _LISTED},
    "find a sender": find(answered_by=b"\x5e" * 20),
    "find later": find(since_ms=NOW_MS + 10**9),
    **{f"list {state or 'all'}": page_of(state) for state in (None, *_LISTED)},
}


@pytest.mark.parametrize("name", DRIVES)
def test_a_large_ledger_costs_as_much_as_a_small_one(ledgers: list[tuple[Engine, Filled]], name: str) -> None:
    answers, costs = [], []
    for engine, ledger in ledgers:
        with engine.connect() as conn:
            with counted_steps(conn) as ticks:
                answers.append(DRIVES[name](Tx(conn, NOW_MS), ledger))
            costs.append(ticks[0])
            conn.rollback()
    small, large = costs
    assert answers[0] == answers[1], "the same work in both"
    assert large <= small * _RATIO + _SLACK, costs


def test_a_question_that_reads_every_task_is_noticed(ledgers: list[tuple[Engine, Filled]]) -> None:
    costs = []
    for engine, _ in ledgers:
        with engine.connect() as conn, counted_steps(conn) as ticks:
            conn.execute(text("SELECT count(*) FROM tasks WHERE attempts = 7"))
            costs.append(ticks[0])
    assert costs[1] > costs[0] * 10
