"""Pieces on their way: how many, when there is room again, and that no failure is lost."""

import asyncio

import pytest

from watcher.inflight import InFlight

LONG_S = 10.0


async def _wait(gate: asyncio.Event) -> None:
    await gate.wait()


async def test_wait_ends_when_as_many_slots_are_free_as_asked_for() -> None:
    jobs, gates = InFlight(3), [asyncio.Event() for _ in range(3)]
    for gate in gates:
        jobs.start(_wait(gate), "job")
    async with asyncio.timeout(LONG_S):  # shorter than the waits' own: none may end by that
        gates[0].set()
        await jobs.wait_for_room(10 * LONG_S)
        assert jobs.room == 1
        waiting = asyncio.create_task(jobs.wait_for_room(10 * LONG_S, 2))
        await asyncio.sleep(0)
        assert not waiting.done()
        gates[1].set()
        await waiting
        assert jobs.room == 2
    gates[2].set()
    await jobs.drain()


async def test_wait_ends_at_once_when_a_slot_is_free_and_else_by_its_limit() -> None:
    jobs, gate = InFlight(1), asyncio.Event()
    async with asyncio.timeout(LONG_S):
        await jobs.wait_for_room(10 * LONG_S)
    jobs.start(_wait(gate), "piece")
    await jobs.wait_for_room(0.01)
    assert jobs.room == 0
    gate.set()
    await jobs.drain()


async def test_failure_of_a_job_ends_the_wait_and_is_raised_by_the_next_call() -> None:
    jobs, gate = InFlight(2), asyncio.Event()

    async def fails() -> None:
        await gate.wait()
        raise ValueError("a bug")

    jobs.start(fails(), "piece")
    waiting = asyncio.create_task(jobs.wait_for_room(10 * LONG_S, 2))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait_for(waiting, LONG_S)
    with pytest.raises(ValueError, match="a bug"):
        _ = jobs.room
    assert jobs.room == 2


async def test_job_without_a_slot_is_awaited_by_drain() -> None:
    jobs, landed, written = InFlight(1), asyncio.Event(), asyncio.Event()
    lines: list[str] = []

    async def piece() -> None:
        await landed.wait()
        jobs.release_slot()
        await written.wait()
        lines.append("written")

    jobs.start(piece(), "piece")
    waiting = asyncio.create_task(jobs.wait_for_room(10 * LONG_S))
    await asyncio.sleep(0)
    assert jobs.room == 0
    landed.set()
    await asyncio.wait_for(waiting, LONG_S)
    assert (jobs.room, len(jobs), lines) == (1, 0, [])
    draining = asyncio.create_task(jobs.drain())
    await asyncio.sleep(0)
    assert not draining.done(), "what is not written down yet is awaited"
    written.set()
    await asyncio.wait_for(draining, LONG_S)
    assert lines == ["written"]


async def test_failure_of_a_job_without_a_slot_is_raised_and_drain_cancels_it() -> None:
    jobs, never = InFlight(2), asyncio.Event()
    cancelled: list[str] = []

    async def fails() -> None:
        jobs.release_slot()
        raise ValueError("a bug")

    async def waits() -> None:
        jobs.release_slot()
        try:
            await never.wait()
        except asyncio.CancelledError:
            cancelled.append("ending")
            raise

    jobs.start(fails(), "fails")
    jobs.start(waits(), "waits")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="a bug"):
        _ = jobs.room
    draining = asyncio.create_task(jobs.drain())
    await asyncio.sleep(0)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert await asyncio.wait_for(_until(cancelled), LONG_S) == ["ending"]


async def _until(lines: list[str]) -> list[str]:
    while not lines:  # noqa: ASYNC110 - it comes with the next turns of the loop
        await asyncio.sleep(0)
    return lines
