"""Who gets which task: nearest deadline first, one holder at a time, and nothing from a holder that stalled."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from tests import single_results
from tests import single_results as hook_results
from tests.conformance.rig import CHAIN_ID, LEASE_MS, MANAGER, START_BLOCK, LedgerRig, header, make_task, sent, stale
from watcher.errors import LostLease
from watcher.ledger import claims, ingest, outcomes, reorg, sending
from watcher.ledger.claims import RetryAt
from watcher.ledger.sending import Attempt, Settlement
from watcher.ledger.store import Ledger, open_ledger
from watcher.state import State
from watcher.task import Accepted, Later, OpenTask, Response

ANSWER = Response(b"too late", "hook 2", 1)


async def indices(ledger: LedgerRig, *states: State, limit: int = 100) -> list[int]:
    return [task.task.task_index for task in await ledger.claim(*states, limit=limit)]


async def test_the_nearest_deadline_comes_first_and_no_deadline_last(ledger: LedgerRig) -> None:
    deadlines = [None, 300, 150, None, 150, 200]
    tasks = [make_task(index, deadline=deadline) for index, deadline in enumerate(deadlines)]
    await ledger.bring(*tasks, to=State.READY)
    assert await indices(ledger, State.READY, limit=4) == [2, 4, 5, 1]
    assert await indices(ledger, State.READY) == [0, 3]
    assert await indices(ledger, State.READY) == []


async def test_a_claimed_task_is_complete(ledger: LedgerRig) -> None:
    task = make_task(7)
    await ledger.bring(task, to=State.READY)
    claimed = await ledger.claim_one(State.READY)
    row_id = (await ledger.row(7)).id
    assert claimed == OpenTask(row_id, task, State.READY, 1, 0, 0, None, updated_at_ms=ledger.clock.now_ms())


async def test_only_the_states_asked_for_are_taken(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    await ledger.bring(make_task(1), to=State.READY)
    await ledger.record(make_task(2))
    assert await indices(ledger, State.READY, State.WAITING) == [1]
    assert await indices(ledger, State.COMPUTED) == [0]


async def test_a_task_is_not_taken_before_its_time(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    claimed = await ledger.claim_one(State.READY)
    await ledger.write(single_results.release, claimed, RetryAt(1_000))
    assert await indices(ledger, State.READY) == []
    ledger.clock.at_ms += 999
    assert await indices(ledger, State.READY) == []
    ledger.clock.at_ms += 1
    assert await indices(ledger, State.READY) == [0]


async def test_a_task_is_not_taken_before_its_block(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    claimed = await ledger.claim_one(State.READY)
    await ledger.write(single_results.release, claimed, RetryAt(0, 112), "look at me later")
    await ledger.record(upto=111)
    assert await indices(ledger, State.READY) == []
    await ledger.record(upto=111, head=112)
    assert await indices(ledger, State.READY) == [0]
    assert (await ledger.row(0)).error == "look at me later"


async def test_a_leased_task_is_taken_again_only_when_the_lease_has_run_out(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    first = await ledger.claim_one(State.READY)
    ledger.clock.at_ms += LEASE_MS - 1
    assert await indices(ledger, State.READY) == []
    ledger.clock.at_ms += 1
    second = await ledger.claim_one(State.READY)
    assert second.fence == first.fence + 1


async def test_a_task_whose_window_has_closed_is_left_to_confirmation(ledger: LedgerRig) -> None:
    tasks = [make_task(index, deadline=deadline) for index, deadline in enumerate([120, 121, None])]
    await ledger.bring(*tasks, to=State.READY)
    await ledger.record(upto=110, head=120)
    assert await indices(ledger, State.READY) == [1, 2], "block 121 is the next one"


async def test_a_task_the_chain_does_not_hold_is_not_taken(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.write(reorg.rewind, ledger.source, header(100))
    assert await indices(ledger, State.READY) == []
    await ledger.record(make_task(0, fork=1), fork=1)
    assert await indices(ledger, State.READY) == [0]


async def test_a_book_takes_tasks_of_its_own_source_alone(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    async with (
        open_ledger(ledger.url, ledger.clock, CHAIN_ID, b"\x22" * 20, START_BLOCK) as other,
        open_ledger(ledger.url, ledger.clock, 1, MANAGER, START_BLOCK) as elsewhere,
    ):
        assert len({ledger.source, other.source_id, elsewhere.source_id}) == 3
        for store in (other, elsewhere):
            await store.write(ingest.record, store.source_id, [], [], header(110), 110)
            assert await store.write(claims.claim, store.source_id, [State.READY], 10, LEASE_MS) == []
    assert await indices(ledger, State.READY) == [0]


async def test_two_claimers_never_get_the_same_task(ledger: LedgerRig) -> None:
    """Several books, each with its own writer: replicas on PostgreSQL, the same file on SQLite."""
    await ledger.bring(*[make_task(index, deadline=200 + index % 7) for index in range(120)], to=State.READY)
    taken: list[int] = []

    async def work_off(store: Ledger) -> None:
        while got := await store.write(claims.claim, ledger.source, [State.READY], 5, LEASE_MS):
            taken.extend(task.task.task_index for task in got)

    async with AsyncExitStack() as stack:
        books = [
            await stack.enter_async_context(open_ledger(ledger.url, ledger.clock, CHAIN_ID, MANAGER, START_BLOCK))
            for _ in range(3)
        ]
        await asyncio.gather(*[work_off(store) for store in [*books, *books, ledger.store, ledger.store]])
    assert sorted(taken) == list(range(120))


async def test_two_senders_with_the_same_claim_begin_once(ledger: LedgerRig) -> None:
    """The row is locked between looking and writing, so that a second writer sees what the first one did."""
    await ledger.bring(make_task(0), to=State.COMPUTED)
    claimed = await ledger.claim_one(State.COMPUTED)
    async with AsyncExitStack() as stack:
        books = [
            await stack.enter_async_context(open_ledger(ledger.url, ledger.clock, CHAIN_ID, MANAGER, START_BLOCK))
            for _ in range(4)
        ]
        begun = await asyncio.gather(
            *[store.write(sending.begin, [claimed], "proxy", {claimed.row_id: bytes(32)}, LEASE_MS) for store in books]
        )
    assert sorted(len(attempts) for attempts in begun) == [0, 0, 0, 1]
    row = await ledger.row(0)
    assert (row.attempts, row.state) == (1, State.SENDING)


async def test_opening_one_source_at_the_same_moment_makes_one(ledger: LedgerRig) -> None:
    async with AsyncExitStack() as stack:
        opening = [open_ledger(ledger.url, ledger.clock, 99, MANAGER, START_BLOCK) for _ in range(4)]
        books = await asyncio.gather(*[stack.enter_async_context(ledger_file) for ledger_file in opening])
        assert len({store.source_id for store in books}) == 1


async def settle(ledger: LedgerRig, task: OpenTask) -> None:
    _, (*_, row) = await ledger.story(0)
    attempt = Attempt(row.id, task, row.began_at_ms, row.api, row.request_digest)
    await ledger.write_item(sending.settle, Settlement(attempt, sent(Accepted(b"\1" * 32)), RetryAt()))


Deed = Callable[[LedgerRig, OpenTask], Awaitable[object]]

DEEDS: dict[str, tuple[State, Deed]] = {
    "keep_answer": (State.READY, lambda ledger, task: ledger.write(hook_results.keep_answer, task, ANSWER)),
    "keep_old_answer": (
        State.READY,
        lambda ledger, task: ledger.write(hook_results.keep_old_answer, replace(task, response=b"of old")),
    ),
    "release": (State.READY, lambda ledger, task: ledger.write(single_results.release, task, RetryAt(), "words")),
    "postpone": (State.READY, lambda ledger, task: ledger.write(hook_results.postpone, task, Later(1), RetryAt(), 1)),
    "hook_failed": (
        State.READY,
        lambda ledger, task: ledger.write(hook_results.hook_failed, task, "words", 1, RetryAt()),
    ),
    "hook_failed for the last time": (
        State.READY,
        lambda ledger, task: ledger.write(hook_results.hook_failed, task, "words", 1, None),
    ),
    "hook_skipped": (State.READY, lambda ledger, task: ledger.write(hook_results.hook_skipped, task, "words", 1)),
    "settle": (State.SENDING, lambda ledger, task: settle(ledger, task)),
}


@pytest.mark.parametrize("name", DEEDS)
async def test_a_stalled_holder_is_refused_and_changes_nothing(ledger: LedgerRig, name: str) -> None:
    state, deed = DEEDS[name]
    await ledger.bring(make_task(0), to=state)
    if state is State.READY:
        await ledger.claim_one(State.READY)
        ledger.clock.at_ms += LEASE_MS
        await ledger.claim_one(State.READY)
    (open_task,) = await ledger.in_state(state)
    before = await ledger.everything()
    with pytest.raises(LostLease):
        await deed(ledger, stale(open_task))
    assert await ledger.everything() == before
    await deed(ledger, open_task)
    assert await ledger.everything() != before, "its successor may do the same"


async def test_begin_leaves_out_what_is_no_longer_held(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.COMPUTED)
    lost, kept = await ledger.claim(State.COMPUTED)
    attempts = await ledger.begin(stale(lost), kept)
    assert [attempt.task.row_id for attempt in attempts] == [kept.row_id]
    assert [row.state for row in await ledger.rows()] == [State.COMPUTED, State.SENDING]
    before = await ledger.everything()
    assert await ledger.begin(stale(lost), kept) == []
    assert await ledger.everything() == before


async def test_an_observer_leaves_alone_what_was_claimed_meanwhile(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    seen = await ledger.in_state(State.COMPUTED)
    await ledger.claim_one(State.COMPUTED)
    before = await ledger.everything()
    await ledger.write(outcomes.expired, seen)
    await ledger.write(outcomes.look_again, seen, 150, "words")
    assert await ledger.everything() == before
