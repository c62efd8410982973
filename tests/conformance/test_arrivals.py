"""The claim that waits: made in the commit that brings a task, by the rules of any claim, and at no other time."""

import asyncio

import pytest

from tests.conformance.rig import LEASE_MS, LedgerRig, header, make_task
from watcher.errors import LostLease
from watcher.ledger import claims, ingest, outcomes
from watcher.ledger.arrivals import Arrivals
from watcher.ledger.claims import Release, RetryAt
from watcher.ledger.transaction import Tx
from watcher.state import State
from watcher.task import OpenTask

_REST_S = 5.0


def waiting(ledger: LedgerRig, *states: State, limit: int = 10) -> Arrivals:
    arrivals = Arrivals(ledger.store, ledger.clock, states or (State.SEEN,))
    arrivals.expect(limit, LEASE_MS, _REST_S)
    return arrivals


def numbers(tasks: object) -> list[int]:
    assert isinstance(tasks, list)
    return [task.task.task_index for task in tasks]


async def test_task_is_claimed_by_the_commit_that_brings_it(ledger: LedgerRig) -> None:
    arrivals = waiting(ledger)
    await ledger.record(make_task(1, deadline=300), make_task(2))
    row = await ledger.row(1)
    assert (row.fence, row.lease_until_ms) == (1, ledger.clock.now_ms() + LEASE_MS)
    arrived = await arrivals.take()
    assert numbers(arrived.tasks) == [2, 1], "the nearest deadline first"
    assert arrived.rest_s == _REST_S, "nothing else is due"
    assert await ledger.claim(State.SEEN) == []
    assert await arrivals.take() == await waiting(ledger).take(), "it claims once"


async def test_nothing_is_claimed_after_the_claim_was_taken_back(ledger: LedgerRig) -> None:
    arrivals = waiting(ledger)
    assert (await arrivals.take()).tasks == ()
    await ledger.record(make_task(1))
    assert numbers(await ledger.claim(State.SEEN)) == [1]


async def test_other_states_are_left_alone(ledger: LedgerRig) -> None:
    arrivals = waiting(ledger, State.COMPUTED)
    await ledger.record(make_task(1))
    assert (await arrivals.take()).tasks == ()
    assert numbers(await ledger.claim(State.SEEN)) == [1]


async def test_stage_looks_for_more_when_there_may_be_more(ledger: LedgerRig) -> None:
    arrivals = waiting(ledger, limit=1)
    await ledger.record(make_task(1), make_task(2))
    assert (await arrivals.take()).rest_s == 0, "as many came as were asked for"
    arrivals = waiting(ledger)
    await ledger.record(make_task(3), upto=111)
    await ledger.record(make_task(4), upto=112)
    arrived = await arrivals.take()
    assert numbers(arrived.tasks) == [2, 3] and arrived.rest_s == 0, "a later commit has made work"


async def test_commit_that_fails_claims_nothing(ledger: LedgerRig) -> None:
    def failing(tx: Tx) -> None:
        ingest.record(tx, ledger.source, [make_task(1)], [], header(110), 110)
        raise LostLease("made up")

    arrivals = waiting(ledger)
    with pytest.raises(LostLease):
        await ledger.write(failing)
    assert await ledger.claim(State.SEEN) == []
    await ledger.record(make_task(2))
    assert numbers((await arrivals.take()).tasks) == [2]


async def test_claim_that_fails_spoils_no_verb(ledger: LedgerRig) -> None:
    def failing(_tx: Tx) -> list[OpenTask]:
        raise LostLease("made up")

    future = ledger.store.follow_up([State.SEEN], failing)
    await ledger.record(make_task(1))
    assert not ledger.store.withdraw(future)
    with pytest.raises(LostLease):
        await future
    assert numbers(await ledger.claim(State.SEEN)) == [1]


async def test_what_has_arrived_is_given_back_like_any_claim(ledger: LedgerRig) -> None:
    arrivals = waiting(ledger)
    await ledger.record(make_task(1))
    (task,) = (await arrivals.take()).tasks
    await ledger.write(claims.release_each, [Release(task, RetryAt())])
    assert numbers(await ledger.claim(State.SEEN)) == [1]
    with pytest.raises(LostLease):
        await ledger.write_item(claims.release_each, Release(task, RetryAt()))


async def test_waiting_claim_takes_part_in_a_commit_of_many_verbs(ledger: LedgerRig) -> None:
    arrivals = waiting(ledger, State.READY)
    await ledger.record(make_task(1), make_task(2))
    seen = await ledger.read(outcomes.to_admit, ledger.source, 0, ledger.clock.now_ms(), 10)
    admit = [ledger.store.write(outcomes.admitted, [task], header(110)) for task in seen]
    await asyncio.gather(*admit)
    first = numbers((await arrivals.take()).tasks)
    assert sorted([*first, *numbers(await ledger.claim(State.READY))]) == [1, 2]
