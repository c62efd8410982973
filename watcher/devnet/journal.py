"""The emulator's journal: the evidence for "never two different answers for one task".

One JSON object per line, on the disk before any reply is sent, so it survives a killed emulator.
"""

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedWriter
from pathlib import Path
from typing import Any


class Journal:
    """An append-only file. `write` returns when the line is on the disk; concurrent lines share one fsync."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BufferedWriter = path.open("ab")
        self._waiting: list[bytes] = []
        self._lock = asyncio.Lock()

    async def write(self, what: str, **fields: Any) -> None:
        """Append a record. `what` is received, answered, sent, mined or note."""
        record = {"at_ms": time.time_ns() // 1_000_000, "what": what, **fields}
        self._waiting.append(json.dumps(record).encode() + b"\n")
        async with self._lock:
            lines, self._waiting = self._waiting, []
            if lines:
                await asyncio.to_thread(self._append, lines)

    def _append(self, lines: Iterable[bytes]) -> None:
        self._file.writelines(lines)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records in order. A last line that a kill has cut is not a record."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def answers_by_task(path: Path) -> Mapping[int, set[str]]:
    """Return for each task index every different `resp_message` of the requests."""
    answers: defaultdict[int, set[str]] = defaultdict(set)
    for record in read_journal(path):
        index, answer = record.get("task_index"), record.get("resp_message")
        if record["what"] == "received" and isinstance(index, int) and isinstance(answer, str):
            answers[index].add(answer)
    return dict(answers)
