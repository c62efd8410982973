"""The JSON fields of tasks. Their names are an interface: fields are added, never renamed or removed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Row

from watcher.ledger.tables import attempts, tasks
from watcher.report.payload import Decoder
from watcher.text import to_hex

# The end of the year 9999, the last that a datetime can hold.
_LAST_S = 253_402_300_799


# Internal columns of `tasks`. Every other column is a field, also one that is added later.
_INTERNAL = frozenset(
    {"id", "source_id", "log", "log_index", "due_at_ms", "due_block", "lease_until_ms", "fence", "look_again"}
    | {"absent", "absent_block", "absent_at_ms", "holder"}
)
TASK_COLUMNS = ("chain_id", "task_manager", *(column.name for column in tasks.c if column.name not in _INTERNAL))
_ATTEMPT_COLUMNS = tuple(c.name for c in attempts.c if c.name not in ("task_id", "fence", "ended_at_ms"))
_JOURNAL_COLUMNS = ("at_ms", "from_state", "to_state", "why", "attempt_id")
# Fields with another name than their column.
FIELD_NAMES = {
    "created_block": "task_created_block",
    "block_time_s": "task_created_at",
    "responded_time_s": "responded_at",
    "deadline_s": "deadline_at",
    "from_state": "from",
    "to_state": "to",
}


def task_fields(row: Row[Any]) -> dict[str, Any]:
    """Return one task as `tasks list --json` prints it. Bytes are lower-case 0x hex, times are ISO 8601 in UTC."""
    return _fields(row, TASK_COLUMNS)


def story_fields(lines: Sequence[Row[Any]], tries: Sequence[Row[Any]]) -> dict[str, Any]:
    """Return the journal and the attempts of a task, as `tasks show --json` adds them."""
    return {
        "journal": [_fields(row, _JOURNAL_COLUMNS) for row in lines],
        "attempt_log": [_fields(row, _ATTEMPT_COLUMNS) for row in tries],
    }


def value_fields(row: Row[Any], decoder: Decoder) -> dict[str, Any]:
    """Return the values of message and response, as `tasks show --json` adds them; null for plain bytes.

    Their form is that of `docs/hook.schema.json`.
    """
    answer = None if row.response is None else decoder.payload_of_answer(row.response)
    return {
        "message_value": decoder.payload_of_message(row.message).value,
        "response_value": None if answer is None else answer.value,
    }


def _fields(row: Row[Any], columns: Sequence[str]) -> dict[str, Any]:
    return dict(_field(column, getattr(row, column)) for column in columns)


def _field(column: str, value: Any) -> tuple[str, Any]:
    if column == "at_ms" or column.endswith("_at_ms"):
        return column.removesuffix("_ms"), time_of(value)
    if isinstance(value, bytes):
        value = hexed(value)
    elif column.endswith("_s"):
        value = second_of(value)
    return FIELD_NAMES.get(column, column), value


def hexed(data: bytes | None) -> str | None:
    """Return bytes as JSON shows them: lower-case 0x hex, null where there are none."""
    return None if data is None else to_hex(data)


def second_of(s: int | None) -> str | None:
    """Return a contract's seconds since 1970 as ISO 8601 in UTC, None for a time after the year 9999."""
    return None if s is None or s > _LAST_S else time_of(s * 1000)


def time_of(ms: int | None) -> str | None:
    """Return milliseconds since 1970 as ISO 8601 in UTC."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
