"""The trace of a task's way: each step with its duration, bounded, and silent unless it is asked for."""

from collections.abc import Iterator

import pytest
from loguru import logger

from tests.kit.clocks import HandClock
from watcher.trace import Trace


@pytest.fixture
def events() -> Iterator[list[dict[str, object]]]:
    fields: list[dict[str, object]] = []
    sink = logger.add(lambda message: fields.append(message.record["extra"]), filter="watcher.trace")
    yield fields
    logger.remove(sink)


def test_step_has_its_own_and_the_total_duration(events: list[dict[str, object]]) -> None:
    clock = HandClock()
    trace = Trace(clock.monotonic_s, on=True)
    began_s = clock.now_s
    clock.now_s += 0.002
    trace.step("seen", [7, 8], began_s)
    clock.now_s += 0.003
    trace.step("admitted", [7])
    assert events == [
        {"task": 7, "step": "seen", "ms": 2.0, "total_ms": 2.0},
        {"task": 8, "step": "seen", "ms": 2.0, "total_ms": 2.0},
        {"task": 7, "step": "admitted", "ms": 3.0, "total_ms": 5.0},
    ]


def test_trace_is_silent_unless_it_is_on(events: list[dict[str, object]]) -> None:
    Trace().step("seen", [7])
    assert events == []


def test_trace_remembers_a_bounded_number_of_tasks() -> None:
    trace = Trace(on=True)
    trace.step("seen", range(3000))
    assert len(trace._times_s) == 1000
