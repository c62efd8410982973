"""The service level over a real ledger: each task counts once, as what it became, with its times and attempts."""

import csv
import io
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, TypeVar

import pytest

from tests.conformance.rig import ANSWER, LedgerRig, make_response, make_task, sent
from tests.kit.statements import noted
from watcher.ledger import backfill, manual, outcomes, sending
from watcher.ledger.backfill import Unsent
from watcher.ledger.claims import RetryAt
from watcher.ledger.periods import RUNNING, Period, keep_periods, periods_between
from watcher.ledger.reader import Reader
from watcher.ledger.sending import Settlement
from watcher.ledger.service_level import task_outcomes
from watcher.report.availability import availability
from watcher.report.service_level import Result, ServiceLevel, measure
from watcher.report.service_level_fields import Subject, csv_lines, document_of
from watcher.report.service_level_page import page
from watcher.state import State
from watcher.task import Refused, Responded, Task

_HOUR_MS = 3_600_000
Item = TypeVar("Item", Task, Responded)
_SENDER = b"\x22" * 20
_HOSTILE = "<script>alert(1)</script>"


def _level(ledger: LedgerRig, since_ms: int, until_ms: int, step_ms: int = _HOUR_MS) -> ServiceLevel:
    reader = Reader(ledger.url)
    try:
        return measure(reader, ledger.source, since_ms, until_ms, step_ms)
    finally:
        reader.close()


def _timed(item: Item, time_s: int) -> Item:
    return replace(item, seen_at=replace(item.seen_at, block_time_s=time_s))


async def _answered(ledger: LedgerRig, index: int, block: int, *, by_us: bool, seconds: int) -> None:
    """Bring a task to an answer on the chain in `block`, `seconds` after its own block."""
    created_s = int(ledger.clock.now_s)
    await ledger.bring(_timed(make_task(index), created_s), to=State.ACCEPTED)
    ledger.clock.now_s += seconds
    response = _timed(make_response(index, block, ANSWER if by_us else b"another"), created_s + seconds)
    (task,) = await ledger.in_state(State.ACCEPTED)
    await ledger.record(answered=[response])
    await ledger.write(outcomes.answered, [(task, response)], by_us=by_us)


async def _mixed(ledger: LedgerRig) -> int:
    """Make a task of each kind. Return the time at which the first was seen (ms)."""
    began_ms = ledger.clock.now_ms()
    await _answered(ledger, 0, 105, by_us=True, seconds=8)
    await _answered(ledger, 1, 110, by_us=False, seconds=9)
    await _answered(ledger, 2, 250, by_us=True, seconds=10)  # its deadline is block 200
    await ledger.bring(make_task(3), to=State.COMPUTED)
    for attempt in await ledger.begin(*await ledger.claim(State.COMPUTED)):
        refusal = sent(Refused(_HOSTILE, endpoint=True), 401)
        await ledger.write_item(sending.settle, Settlement(attempt, refusal, RetryAt()))
    await ledger.write(outcomes.expired, await ledger.in_state(State.BLOCKED))
    await ledger.write(backfill.record_senders, {Unsent(make_response(0, 105).seen_at.tx_hash, 105): _SENDER})
    ledger.clock.now_s += 7200
    await ledger.bring(make_task(4), to=State.READY)
    await ledger.write(manual.skip, ledger.source, 4, "not for us")
    await ledger.bring(make_task(5), to=State.READY)
    await ledger.write(manual.skip, ledger.source, 5, "nor this")
    await ledger.bring(make_task(6), to=State.READY)
    return began_ms


async def test_each_task_counts_as_what_it_became(ledger: LedgerRig) -> None:
    began_ms = await _mixed(ledger)
    level = _level(ledger, began_ms, ledger.clock.now_ms() + 1)
    expected = {Result.OURS: 1, Result.OTHER: 1, Result.LATE: 1, Result.MISSED: 1, Result.SKIPPED: 2, Result.OPEN: 1}
    total = level.total
    assert dict(total.results) == expected
    assert (total.tasks, total.decided, total.in_time, total.in_time_share, total.by_us_share) == (7, 4, 2, 0.5, 0.25)
    assert [step.tasks for step in level.steps if step.tasks] == [4, 3]
    assert sum(step.results[Result.OPEN] for step in level.steps) == 1
    assert {(task.task_index, task.result) for task in level.unanswered} == {(2, Result.LATE), (3, Result.MISSED)}
    assert level.outcomes["post", "refused", 401] == 1
    assert level.outcomes["post", "accepted", 200] == 3
    assert (level.posts[1], level.posts[0]) == (4, 3)
    assert total.to_chain_blocks.percentiles((50, 99)) == {"p50": 4, "p99": 149}
    assert total.to_chain_ms.percentiles((50, 99)) == {"p50": 8000, "p99": 10_000}


async def test_only_tasks_of_the_time_count(ledger: LedgerRig) -> None:
    began_ms = await _mixed(ledger)
    later = _level(ledger, began_ms + _HOUR_MS, ledger.clock.now_ms() + 1)
    assert (later.total.tasks, later.total.decided, later.total.in_time_share) == (3, 0, None)
    assert _level(ledger, 0, began_ms, began_ms).total.tasks == 0


async def test_pages_hold_each_task_once(ledger: LedgerRig) -> None:
    times_s = [1_000, 1_000, 999, 1_001, 1_000]
    await ledger.record(*(_timed(make_task(index), time_s) for index, time_s in enumerate(times_s)))
    for limit in (1, 2, 3):
        after, indices = None, []
        while rows := await ledger.read(task_outcomes, ledger.source, 999_000, 1_001_000, after, limit):
            after = rows[-1]
            indices += [row.task_index for row in rows]
        assert indices == [2, 0, 1, 4]


async def test_page_is_found_by_its_time(ledger: LedgerRig) -> None:
    if not ledger.is_sqlite:
        pytest.skip("a plan of an empty table says nothing on PostgreSQL")
    with ledger.engine.connect() as conn:
        statements: list[str] = []
        with noted(lambda _conn, statement, _parameters: statements.append(statement), ledger.engine):
            task_outcomes(conn, ledger.source, 0, 1, None)
        question = next(statement for statement in statements if statement.startswith("SELECT"))
        plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {question}", (0,) * question.count("?")).all()
    assert any("USING INDEX ix_tasks_time" in row.detail for row in plan), plan


class _Outside(HTMLParser):
    """What a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[tuple[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [(tag, value) for name, value in attrs if name in ("src", "href") or name.startswith("on")]
        if tag in ("script", "link", "iframe", "img", "object"):
            self.fetched.append((tag, None))


async def test_page_has_everything_and_takes_nothing_from_outside(ledger: LedgerRig) -> None:
    began_ms = await _mixed(ledger)
    now_ms = ledger.clock.now_ms() + 1
    outages = [Period(RUNNING, began_ms, now_ms), Period("operator-api", began_ms, began_ms + 60_000, _HOSTILE)]
    await ledger.write(keep_periods, ledger.source, outages)
    level = _level(ledger, began_ms, now_ms)
    parts = availability(await ledger.read(periods_between, ledger.source, began_ms, now_ms), began_ms, now_ms)
    document = document_of(Subject(31337, "0x" + "11" * 20, now_ms, 110, 105), level, parts)
    assert document["availability"]["parts"][0]["down_s"] == 60
    assert document["answered_by"] == [
        {"address": None, "tasks": 2, "with_our_answer": 1, "with_another": 1},
        {"address": "0x" + "22" * 20, "tasks": 1, "with_our_answer": 1, "with_another": 0},
    ]
    text = page(document, level, parts)
    outside = _Outside()
    outside.feed(text)
    assert outside.fetched == []
    assert _HOSTILE not in text
    assert text.count("<svg") == 6
    assert "50.000 %" in text

    buffer = io.StringIO()
    rows = list(csv_lines(level))
    writer = csv.DictWriter(buffer, list(rows[-1]))
    writer.writeheader()
    writer.writerows(rows)
    lines = list(csv.DictReader(io.StringIO(buffer.getvalue())))
    assert (lines[-1]["row"], lines[-1]["in_time_share"], lines[-1]["creation_to_chain_s_p99"]) == (
        "total",
        "0.5",
        "10.0",
    )
    assert sum(int(line["tasks"]) for line in lines[:-1]) == 7
