"""The options that select past tasks: times and ranges of blocks."""

from collections.abc import AsyncIterator

import pytest
import typer

from tests.conformance.rig import make_task
from watcher.cli.past_tasks import _limited, _sampled
from watcher.cli.selection import block_range, moment_ms
from watcher.ledger.replay import PastTask

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("90s", NOW_MS - 90_000),
        ("12h", NOW_MS - 43_200_000),
        ("1w", NOW_MS - 604_800_000),
        ("2023-11-14", 1_699_920_000_000),
        ("today", 1_699_920_000_000),
        ("yesterday", 1_699_833_600_000),
        ("2023-11-14T22:13:20Z", NOW_MS),
        ("2023-11-14T23:13:20+01:00", NOW_MS),
    ],
)
def test_moment_is_read_as_iso_or_as_an_age(text: str, expected_ms: int) -> None:
    assert moment_ms(text, NOW_MS) == expected_ms


@pytest.mark.parametrize("text", ["", "tomorrow", "12", "7y", "2023-13-01", "9999999d", "0001-01-01T00:00+23:59x"])
def test_moment_is_refused_when_it_is_no_time(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no time"):
        moment_ms(text, NOW_MS)


def test_block_range_has_open_sides() -> None:
    assert [block_range(text) for text in ("5..9", "5..", "..9", "7..7")] == [(5, 9), (5, None), (None, 9), (7, 7)]
    for text in ("", "..", "9..5", "5", "5...9", "-1..3", "a..b"):
        with pytest.raises(typer.BadParameter, match="no range"):
            block_range(text)


async def test_sample_is_even_and_always_alike() -> None:
    async def indices(size: int, count: int) -> list[int]:
        async def tasks() -> AsyncIterator[PastTask]:
            for index in range(count):
                yield PastTask(index, make_task(index), "final")

        return [past.task.task_index async for past in _limited(_sampled(tasks(), size), 1000)]

    chosen = await indices(100, 1000)
    assert chosen == sorted(set(chosen)) == await indices(100, 1000)
    assert len(chosen) == 100
    assert 20 < sum(index < 500 for index in chosen) < 80
    assert await indices(100, 7) == list(range(7))
