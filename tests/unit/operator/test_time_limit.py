"""A block ends when its time is over, and never for another reason."""

import asyncio

import pytest

from watcher.operator.time_limit import TimeLimit

SHORT_S, PATIENCE_S, LONG_S = 0.02, 5.0, 30.0


async def forever(limit: TimeLimit, begun: asyncio.Event | None = None) -> None:
    with limit:
        if begun is not None:
            begun.set()
        await asyncio.Event().wait()


async def test_each_block_ends_when_its_own_time_is_over() -> None:
    limit, loop = TimeLimit(SHORT_S), asyncio.get_running_loop()
    took_s: list[float] = []

    async def measured() -> None:
        began_s = loop.time()
        with pytest.raises(TimeoutError):
            await forever(limit)
        took_s.append(loop.time() - began_s)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    async def two() -> None:
        await measured()
        await measured()

    async with asyncio.timeout(LONG_S), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(two())
            await asyncio.sleep(SHORT_S / 3)
    assert len(took_s) == 6 and min(took_s) >= SHORT_S


async def test_a_later_block_ends_although_none_begins_after_it() -> None:
    limit = TimeLimit(SHORT_S)
    first = asyncio.create_task(forever(limit))
    await asyncio.sleep(SHORT_S / 2)
    second = asyncio.create_task(forever(limit))
    async with asyncio.timeout(PATIENCE_S):
        results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [TimeoutError, TimeoutError]


async def test_a_block_that_has_ended_is_not_cancelled_later() -> None:
    limit = TimeLimit(SHORT_S)
    with limit:
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await forever(limit)
    with pytest.raises(ValueError, match="mine"), limit:
        raise ValueError("mine")
    await asyncio.sleep(2 * SHORT_S)


async def test_who_cancels_a_task_in_a_block_sees_it_cancelled() -> None:
    limit, begun = TimeLimit(LONG_S), asyncio.Event()
    task = asyncio.create_task(forever(limit, begun))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_shorter_limit_around_a_block_holds() -> None:
    limit = TimeLimit(LONG_S)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT_S):
            await forever(limit)
    with limit:  # the task is in no block any more
        await asyncio.sleep(0)


async def test_a_cancellation_at_the_end_of_the_time_is_not_lost() -> None:
    limit = TimeLimit(SHORT_S)

    async def stubborn() -> None:
        with limit:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                task.cancel()  # by another one, while the block ends
                raise

    task = asyncio.create_task(stubborn())
    with pytest.raises(asyncio.CancelledError):
        await task
