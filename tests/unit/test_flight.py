"""Pieces on their way: how many, when there is room again, and that no failure is lost."""

import asyncio

import pytest

from watcher.flight import Flight

LONG_S = 30.0


async def _wait(gate: asyncio.Event) -> None:
    await gate.wait()


async def test_landing_waits_for_as_much_room_as_asked() -> None:
    flight, gates = Flight(3), [asyncio.Event() for _ in range(3)]
    for gate in gates:
        flight.start(_wait(gate), "piece")
    waiting = asyncio.create_task(flight.landing(LONG_S, 2))
    gates[0].set()
    await flight.landing(LONG_S)
    assert flight.room == 1
    # The second wait has taken the place of the first: a flight has one owner.
    waiting.cancel()
    waiting = asyncio.create_task(flight.landing(LONG_S, 2))
    await asyncio.sleep(0)
    assert not waiting.done()
    gates[1].set()
    await asyncio.wait_for(waiting, LONG_S)
    assert flight.room == 2
    gates[2].set()
    await flight.drain()


async def test_landing_returns_at_once_where_there_is_room_and_in_time_where_there_is_none() -> None:
    flight, gate = Flight(1), asyncio.Event()
    await flight.landing(LONG_S)
    flight.start(_wait(gate), "piece")
    await flight.landing(0.01)
    assert flight.room == 0
    gate.set()
    await flight.drain()


async def test_a_piece_that_raises_ends_the_wait_and_comes_out_of_the_next_call() -> None:
    flight, gate = Flight(2), asyncio.Event()

    async def fails() -> None:
        await gate.wait()
        raise ValueError("a bug")

    flight.start(fails(), "piece")
    waiting = asyncio.create_task(flight.landing(LONG_S, 2))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait_for(waiting, LONG_S)
    with pytest.raises(ValueError, match="a bug"):
        _ = flight.room
    assert flight.room == 2
