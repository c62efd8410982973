"""The profile of a burst: its parts exist, none counts the CPU of another, and the table adds up."""

import asyncio
import time

import pytest

from bench import profile, profile_child
from bench.page import PAGE, with_text
from bench.profile import lines, table
from bench.profile_child import PARTS, place

BURNT_S = 0.02


def burn() -> None:
    """Use so much CPU, and a little more."""
    ends_s = time.thread_time() + BURNT_S
    while time.thread_time() < ends_s:
        pass


@pytest.mark.parametrize(("module", "function", "_part"), PARTS, ids=lambda value: value)
def test_a_part_is_a_function_of_the_program(module: str, function: str, _part: str) -> None:
    owner, name = place(module, function)
    assert callable(getattr(owner, name)), "a function was renamed: bring PARTS up to date"


def test_a_part_within_another_counts_alone() -> None:
    inner = profile_child._clocked(burn, "inner")

    async def work() -> None:
        await asyncio.sleep(0)
        inner()

    asyncio.run(profile_child._clocked(work, "outer")())
    parts = profile_child.counts()["MainThread"]
    assert parts["inner"] >= BURNT_S
    assert parts["outer"] < BURNT_S
    assert parts[""] >= parts["inner"] + parts["outer"]


COUNTS = {
    "MainThread": {"": 1.0, "POST": 0.25, "stage submit": 0.5},
    "ledger-writer": {"": 0.6, "statements": 0.6},
    "asyncio_0": {"": 0.25, "statements": 0.1},
    "asyncio_1": {"": 0.15},
}


def test_the_parts_of_a_thread_add_up_to_it() -> None:
    by_thread: dict[str, list[float]] = {}
    for line in lines(COUNTS):
        if line.part:
            by_thread.setdefault(line.thread, []).append(line.cpu_s)
    assert by_thread == {"event loop": [0.5, 0.25, 0.25], "the ledger's writer": [0.6, 0.0]}


def test_the_table_shows_threads_and_leaves_out_what_is_tiny() -> None:
    rows = table(COUNTS, tasks=1000)
    assert rows[2:6] == [
        "| **event loop** | 1,000 | 50.0% |",
        "| stage submit | 500 | 25.0% |",
        "| POST | 250 | 12.5% |",
        "| asyncio itself: its loop, epoll, timers | 250 | 12.5% |",
    ]
    assert rows[-1] == "| **threads that read the ledger** | 400 | 20.0% |"
    assert not any("around the verbs" in row for row in rows)


def test_the_page_has_a_place_for_the_table() -> None:
    text = with_text(PAGE.read_text(encoding="utf-8"), profile._BEGIN, "| a table |", profile._END)
    assert text.count("| a table |") == 1


def test_the_report_names_the_cost_without_clocks() -> None:
    clocked, plain = profile.Spent(COUNTS, 2.0, 0.2), profile.Spent({}, 1.8, 0.1)
    assert "2,000 us with the clocks, 1,800 without, and the hook's workers 100." in profile.report(
        clocked, plain, tasks=1000, concurrency=32
    )
