"""The line about a missed task names the deadline as its contract says it: a block, or a time."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from loguru import logger

from watcher.chain.expiry import Expiry
from watcher.state import State
from watcher.task import Header, OpenTask, Sighting, Task


class Proven:
    """Every zero is proven, and every change is taken."""

    source_id = 1

    async def proven(self, held: Sequence[OpenTask], *_: object) -> Sequence[OpenTask]:
        return held

    async def write(self, *_: object) -> frozenset[int]:
        return frozenset()


@pytest.mark.parametrize(
    ("deadline_block", "deadline_s", "words"),
    [
        (120, None, "missed: block 120, its deadline,"),
        (None, 1_700_000_000, "missed: 2023-11-14 22:13:20 UTC, its deadline,"),
        (120, 1_700_000_000, "missed: 2023-11-14 22:13:20 UTC, its deadline,"),
        (None, 2**62, "missed: 9999-12-31 23:59:59 UTC, its deadline,"),
        (None, 0, "missed: 1970-01-01 00:00:00 UTC, its deadline,"),
    ],
)
async def test_missed_line_names_the_deadline_as_the_contract_does(
    deadline_block: int | None, deadline_s: int | None, words: str
) -> None:
    seen = Sighting(100, bytes(32), bytes(32), 0)
    task = Task(1, bytes(20), 3, bytes(32), 100, b"", b"", 0, deadline_block, seen, deadline_s=deadline_s)
    anything, contract = cast("Any", Proven()), cast("Any", SimpleNamespace(proves_answers=False))
    expiry = Expiry(anything, contract, anything, anything)
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="ERROR")
    try:
        await expiry.unanswered([OpenTask(1, task, State.ACCEPTED, 0, 1, 0, None)], Header(200, bytes(32), bytes(32)))
    finally:
        logger.remove(sink)
    (line,) = lines
    assert line.startswith(words)
