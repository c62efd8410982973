"""A clock that is set back, under an open ledger or a closed one: nothing waits for the old time to come again."""

from dataclasses import replace

import pytest

from tests import single_results
from tests.conformance.rig import LEASE_MS, LedgerRig, digest, make_task, sent
from watcher.ledger import absences, claims, pauses, queries, sending
from watcher.ledger.claims import RetryAt
from watcher.ledger.sending import Settlement
from watcher.ledger.transaction import Tx
from watcher.state import State
from watcher.task import Absence, Absent, Accepted

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS


async def events(ledger: LedgerRig) -> list[str]:
    return [event.words for event in await ledger.read(queries.recent_events, ledger.source)]


@pytest.mark.parametrize("back_ms", [2_000, HOUR_MS, 10 * YEAR_MS])
async def test_a_pause_lasts_as_long_as_it_was_meant_to(ledger: LedgerRig, back_ms: int) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.READY)
    for task in await ledger.claim(State.READY):
        await ledger.write(single_results.release, task, RetryAt(60_000 if task.task.task_index else 0))
    ledger.clock.at_ms += 20_000
    ledger.clock.back_ms = back_ms
    (task,) = await ledger.claim(State.READY, lease_ms=YEAR_MS)
    assert task.task.task_index == 0
    ledger.clock.at_ms += 39_999
    assert await ledger.claim(State.READY) == []
    ledger.clock.at_ms += 1
    assert (await ledger.claim_one(State.READY)).task.task_index == 1
    assert await events(ledger) == [f"the clock was set back by {back_ms // 1000} s"]


async def test_a_lease_lasts_as_long_as_it_was_meant_to(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.claim_one(State.READY)
    ledger.clock.back_ms = HOUR_MS
    assert await ledger.claim(State.READY) == []
    ledger.clock.at_ms += LEASE_MS - 1
    assert await ledger.claim(State.READY) == []
    ledger.clock.at_ms += 1
    assert (await ledger.claim_one(State.READY)).fence == 2


async def test_what_was_on_its_way_when_the_clock_was_set_back_arrives(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    (attempt,) = await ledger.begin(await ledger.claim_one(State.COMPUTED))
    ledger.clock.back_ms = HOUR_MS
    assert (
        await ledger.write_item(sending.settle, Settlement(attempt, sent(Accepted(digest("tx"), None)), RetryAt()))
        is State.ACCEPTED
    )
    row = await ledger.row(0)
    assert row.due_at_ms <= ledger.clock.now_ms()


async def test_clocks_set_back_and_forth_add_up(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.write(single_results.release, await ledger.claim_one(State.READY), RetryAt(60_000))
    for back_ms in (HOUR_MS, 2 * HOUR_MS, 2 * HOUR_MS + 600, 2 * HOUR_MS + 1_200):
        ledger.clock.back_ms = back_ms
        assert await ledger.claim(State.READY) == []
    row = await ledger.row(0)
    assert row.due_at_ms == ledger.clock.now_ms() + 60_000
    ledger.clock.back_ms = -YEAR_MS  # forward: due early
    assert (await ledger.claim_one(State.READY)).task.task_index == 0
    ledger.clock.back_ms = 0
    await ledger.write(single_results.release, (await ledger.in_state(State.READY))[0], RetryAt(60_000))
    assert len(await events(ledger)) == 4


async def test_a_verb_that_fails_does_not_take_the_setback_with_it(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.write(single_results.release, await ledger.claim_one(State.READY), RetryAt(1_000))
    ledger.clock.back_ms = HOUR_MS

    def fails(_tx: object) -> None:
        raise ValueError("a verb of no use")

    with pytest.raises(ValueError, match="of no use"):
        await ledger.write(fails)
    ledger.clock.at_ms += 1_000
    assert (await ledger.claim_one(State.READY)).task.task_index == 0


async def test_what_a_clock_ahead_of_ours_has_written_begins_anew_at_the_start(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), make_task(2), to=State.READY)
    for task in await ledger.claim(State.READY):
        await ledger.write(single_results.release, task, RetryAt(task.task.task_index * 60_000))
    rows = await ledger.rows()
    assert await ledger.write(pauses.restart_pauses, ledger.source) == 0
    assert await ledger.rows() == rows, "a clock that is right changes nothing"

    def started_an_hour_earlier(tx: Tx) -> int:
        tx.now_ms -= HOUR_MS
        return pauses.restart_pauses(tx, ledger.source)

    assert await ledger.write(started_an_hour_earlier) == 3
    now_ms = ledger.clock.now_ms() - HOUR_MS
    assert [row.due_at_ms for row in await ledger.rows()] == [now_ms, now_ms + 60_000, now_ms + 120_000]


@pytest.mark.parametrize("back_ms", [2_000, HOUR_MS])
async def test_time_since_a_zero_is_kept_when_the_clock_is_set_back(ledger: LedgerRig, back_ms: int) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    await read_as_zero(ledger, Absent.RESPONSE, 6_000)
    ledger.clock.at_ms += 4_000
    ledger.clock.back_ms = back_ms
    await ledger.write(claims.claim, ledger.source, [State.READY], 1, LEASE_MS)
    row = await ledger.row(0)
    now_ms = ledger.clock.now_ms()
    assert (row.absent_at_ms, row.due_at_ms) == (now_ms - 4_000, now_ms + 2_000)


async def test_zero_read_by_a_clock_ahead_of_ours_postpones_nothing_until_then(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    now_ms = ledger.clock.now_ms()
    await read_as_zero(ledger, Absent.EVENT, 0, at_ms=now_ms + HOUR_MS)
    assert (await ledger.row(0)).due_at_ms == now_ms


@pytest.mark.parametrize("back_ms", [60_000, YEAR_MS])
async def test_a_task_read_as_zero_is_put_off_from_that_reading_at_the_start(ledger: LedgerRig, back_ms: int) -> None:
    """Not from its last transition, which may be long past: by then it had waited for its deadline."""
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    ledger.clock.at_ms += HOUR_MS
    await read_as_zero(ledger, Absent.RESPONSE, 6_000)

    def started_earlier(tx: Tx) -> int:
        tx.now_ms -= back_ms
        return pauses.restart_pauses(tx, ledger.source)

    assert await ledger.write(started_earlier) == 1
    assert (await ledger.row(0)).due_at_ms == ledger.clock.now_ms() - back_ms + 6_000


async def read_as_zero(ledger: LedgerRig, of: Absent, apart_ms: int, at_ms: int | None = None) -> None:
    (open_task,) = await ledger.in_state(State.ACCEPTED)
    absence = Absence(of, 110, ledger.clock.now_ms() if at_ms is None else at_ms)
    await ledger.write(absences.record, [replace(open_task, absence=absence)], apart_ms, 111)
