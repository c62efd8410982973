"""Recorded tasks as cases of a test: what `tasks list --json`, `tasks show --json` and `replay --json` print."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from watcher.errors import FixConfiguration
from watcher.files import parse, read_text
from watcher.task import Sighting, Task
from watcher.testing.tasks import make_task

LIMIT_BYTES = 256 * 1024 * 1024
_INDEX_MAX = 2**256 - 1
# The values of a task that a file may hold, by the names of `tasks list --json`, with their length in bytes.
_HASHES = {"task_hash": 32, "block_hash": 32, "created_tx_hash": 32, "task_manager": 20}


@dataclass(frozen=True, slots=True)
class ReplayCase:
    """A recorded task, and its past.

    Attributes:
        task: the task, for `run_hook`.
        response: the answer that was recorded; None: there was none.
        state: the state in which it was recorded; "" if the file does not say it.
    """

    task: Task
    response: bytes | None
    state: str

    def __str__(self) -> str:
        """Return the name of the case in a report of pytest."""
        return f"task-{self.task.task_index}"


def replay_cases(path: str | os.PathLike[str], *, answered_only: bool = True) -> list[ReplayCase]:
    """Return the tasks of a file, in its order, for `pytest.mark.parametrize`.

    Args:
        path: a file of JSON: one task, a list of them, one task on each line, or the report of `watcher replay --json`,
            whose differences are cases with the recorded answer, else the accepted one.
        answered_only: leave out the tasks without a recorded answer.

    Raises:
        FixConfiguration: the file cannot be read, or does not hold tasks; names the task and the field.
    """
    name = Path(path).name
    try:
        text = read_text(Path(path), LIMIT_BYTES)
        cases = [_case(fields, place) for place, fields in enumerate(_documents(text), 1)]
    except FixConfiguration as error:
        raise FixConfiguration(*(f"{name}: {problem}" for problem in error.problems)) from None
    return [case for case in cases if case.response is not None or not answered_only]


def _documents(text: str) -> Iterator[Any]:
    """Yield the tasks of a document. Raises FixConfiguration for one that is not JSON."""
    try:
        document = parse(text.encode())
    except ValueError:
        yield from _lines(text)
        return
    if isinstance(document, dict) and isinstance(document.get("cases"), list):
        document = [_replayed(fields) for fields in document["cases"]]
    yield from document if isinstance(document, list) else [document]


def _replayed(fields: Any) -> Any:
    """Return a case of a replay's report with the names of `tasks list --json`."""
    if not isinstance(fields, dict):
        return fields
    known = fields.get("recorded") or fields.get("accepted")
    return {**fields, "response": known.get("hex") if isinstance(known, dict) else None}


def _lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield parse(line.encode())
            except ValueError:
                raise FixConfiguration(
                    f"line {number} is not JSON; write it with `watcher tasks list --json`"
                ) from None


def _case(fields: Any, place: int) -> ReplayCase:
    if not isinstance(fields, dict):
        raise FixConfiguration(f"task {place} is not an object with the fields of `watcher tasks list --json`")
    try:
        response = fields.get("response")
        return ReplayCase(
            _task(fields),
            None if response is None else _bytes("response", response),
            str(fields.get("state") or ""),
        )
    except ValueError as error:
        raise FixConfiguration(f"task {place}: {error}") from None


def _task(fields: Mapping[str, Any]) -> Task:
    """Return the task of an object, with plausible values for what it leaves out. Raises ValueError."""
    if fields.get("message") is None:
        raise ValueError("message is missing")
    index = _whole(fields, "task_index", 0)
    hashes = {
        name: _bytes(name, fields[name], length) for name, length in _HASHES.items() if fields.get(name) is not None
    }
    task = make_task(
        _bytes("message", fields["message"]),
        task_index=index,
        chain_id=_whole(fields, "chain_id", 31337),
        created_block=_whole(fields, "task_created_block", 100),
        quorum_numbers=_bytes("quorum_numbers", fields.get("quorum_numbers") or "0x00"),
        quorum_threshold=_whole(fields, "quorum_threshold", 66),
        deadline_block=None if fields.get("deadline_block") is None else _whole(fields, "deadline_block", 0),
        fields=_event_values(fields.get("fields")),
    )
    seen_at = Sighting(
        _whole(fields, "block_number", task.created_block),
        hashes.get("block_hash", task.seen_at.block_hash),
        hashes.get("created_tx_hash", task.seen_at.tx_hash),
        0,
    )
    return replace(
        task,
        task_hash=hashes.get("task_hash", task.task_hash),
        task_manager=hashes.get("task_manager", task.task_manager),
        seen_at=seen_at,
    )


def _event_values(values: Any) -> Mapping[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError("fields is not an object")
    return values


def _whole(fields: Mapping[str, Any], name: str, default: int) -> int:
    """Return a whole number; JSON may hold it as text, where it does not fit into a double."""
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 78:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _INDEX_MAX:
        raise ValueError(f"{name} is {_brief(value)}, not a whole number from 0 on")
    return value


def _bytes(name: str, value: Any, length: int | None = None) -> bytes:
    data = None
    if isinstance(value, str) and value[:2] in ("0x", "0X"):
        try:
            data = bytes.fromhex(value[2:]) if value.isascii() and not any(c.isspace() for c in value) else None
        except ValueError:
            data = None
    if data is None or (length is not None and len(data) != length):
        size = "" if length is None else f"{length} "
        raise ValueError(f"{name} is {_brief(value)}, not {size}bytes as 0x and two hex digits for each")
    return data


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
