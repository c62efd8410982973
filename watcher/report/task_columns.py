"""The columns of a list of tasks, as JSON, as cells of a CSV file, and as cells of a table.

The names are those of `tasks list --json`, an interface. A list of 100,000 tasks takes seconds, so a page of tasks is
converted column by column.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from types import NoneType
from typing import Any

from sqlalchemy.engine import Row

from watcher.report.listing import FIELD_NAMES, TASK_COLUMNS, second_of, time_of
from watcher.report.story import Cause
from watcher.text import escape

Value = str | int | bool | None
_HEX_LIMIT_CHARS = 16  # characters of a long hex value in a table
# What a spreadsheet takes for the start of a formula, also behind white space.
# Source: https://owasp.org/www-community/attacks/CSV_Injection.
_FORMULA = re.compile("\\s*[=+\\-@\uff0b\uff0d\uff1d\uff20]|[\t\r\n]")


class TaskPage:
    """Some tasks with the cause of each, by column."""

    def __init__(self, rows: Sequence[Row[Any]], causes: Sequence[Cause]) -> None:
        self.causes = causes
        names = rows[0]._fields if rows else ()
        self._columns: dict[str, Sequence[Any]] = dict(zip(names, zip(*rows, strict=True), strict=True))

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of a column of the ledger."""
        return self._columns.get(name, ())


Convert = Callable[[TaskPage], Sequence[Value]]


@lru_cache(maxsize=4096)
def _second(s: int | None) -> str | None:
    return second_of(s)


def _time(ms: int | None) -> str | None:
    """Return the same as `time_of`; times of one second share their longest part."""
    if ms is None:
        return None
    second = _second(ms // 1000)
    return time_of(ms) if second is None else f"{second[:-4]}{ms % 1000:03}Z"


def _convert(column: str) -> Convert:
    """Return the converter of a column of the ledger."""
    if column.endswith("_at_ms"):
        return lambda page: [_time(ms) for ms in page.column(column)]
    if column.endswith("_s"):
        return lambda page: list(map(_second, page.column(column)))
    if column in _BYTES:
        return lambda page: [None if data is None else "0x" + data.hex() for data in page.column(column)]
    return lambda page: page.column(column)


_BYTES = frozenset({
    "task_manager", "task_hash", "message", "quorum_numbers", "block_hash", "created_tx_hash", "response", "sig_hash",
    "tx_hash", "responded_tx_hash", "responded_by", "response_hash",
})  # fmt: skip


def _differences(last: str, first: str) -> Convert:
    return lambda page: [
        None if end is None or start is None else end - start
        for end, start in zip(page.column(last), page.column(first), strict=True)
    ]


def _field_name(column: str) -> str:
    return FIELD_NAMES.get(column, column.removesuffix("_ms"))


FIELDS: Mapping[str, Convert] = {
    **{_field_name(column): _convert(column) for column in TASK_COLUMNS},
    # Derived: from the block of the task to that of its response, and why it is in its state.
    "response_blocks": _differences("responded_block", "block_number"),
    "response_s": _differences("responded_time_s", "block_time_s"),
    "is_history": lambda page: [bool(value) for value in page.column("is_history")],
    "reason": lambda page: [cause.reason for cause in page.causes],
    "next_at": lambda page: [_time(cause.next_ms) for cause in page.causes],
    "next_block": lambda page: [cause.next_block for cause in page.causes],
}
"""Every field by name, in the order of the output."""
CAUSE_FIELDS = frozenset({"reason", "next_at", "next_block"})
"""The fields that need the cause of a task."""
# Hex and times, which are ours: no spreadsheet takes one for a formula, and none holds a control character.
_OWN_TEXTS = frozenset({"next_at"}) | {
    _field_name(column) for column in TASK_COLUMNS if column in _BYTES or column.endswith(("_at_ms", "_s"))
}


def json_objects(page: TaskPage, names: Sequence[str]) -> Iterator[str]:
    """Yield the tasks of a page, each as one JSON object with these fields."""
    form = "{" + ", ".join(encode_basestring_ascii(name) + ": %s" for name in names) + "}"
    columns = [_json_column(FIELDS[name](page)) for name in names]
    return (form % values for values in zip(*columns, strict=True))


def _json_column(values: Sequence[Any]) -> Sequence[str]:
    """Return values as JSON. A column of one type, as nearly all are, costs no call of a Python function per value."""
    kinds = set(map(type, values))
    convert = _PLAIN_JSON.get(frozenset(kinds - {NoneType}), _json)
    if NoneType in kinds:
        return ["null" if value is None else convert(value) for value in values]
    return list(map(convert, values))


_PLAIN_JSON: Mapping[frozenset[type], Callable[[Any], str]] = {
    frozenset({str}): encode_basestring_ascii,
    frozenset({int}): str,
}


def _json(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    return str(value) if not isinstance(value, bool) else "true" if value else "false"


def csv_rows(page: TaskPage, names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the cells of the tasks of a page; none of them is a formula to a spreadsheet."""
    return zip(*[_csv_column(FIELDS[name](page), name in _OWN_TEXTS) for name in names], strict=True)


def _csv_column(values: Sequence[Any], are_own: bool) -> Sequence[str]:
    """Return values as cells: our own texts as they are, and of others each distinct one looked at once."""
    if are_own:
        return ["" if value is None else value for value in values]
    kinds = set(map(type, values))
    if kinds <= {str, NoneType}:
        cells = {value: csv_cell(value) for value in set(values)}
        return [cells[value] for value in values]
    return list(map(str, values)) if kinds == {int} else [csv_cell(value) for value in values]


def csv_cell(value: Value) -> str:
    """Return a value as a cell: control characters spelled out, and what begins like a formula behind an apostrophe."""
    if not isinstance(value, str):
        return "" if value is None else _json(value)
    cell = escape(value)
    return "'" + cell if _FORMULA.match(value) else cell


def table_rows(page: TaskPage, names: Sequence[str], width_chars: int | None) -> Iterator[Sequence[str]]:
    """Yield the cells of the tasks of a page. Longer ones are cut to `width_chars`, hex to less; None: none is."""
    columns = [[_cell(value, width_chars) for value in FIELDS[name](page)] for name in names]
    if "state" in names:
        marks = ["" if is_canonical else " (off chain)" for is_canonical in page.column("canonical")]
        place = names.index("state")
        columns[place] = [state + mark for state, mark in zip(columns[place], marks, strict=True)]
    return zip(*columns, strict=True)


def _cell(value: Value, width_chars: int | None) -> str:
    text = "" if value is None else value if isinstance(value, str) else _json(value)
    if width_chars is None:
        return text
    limit = min(width_chars, _HEX_LIMIT_CHARS) if text.startswith("0x") else width_chars
    return text if len(text) <= limit else text[: limit - 1] + "…"


def fields_of(row: Row[Any], cause: Cause) -> dict[str, Value]:
    """Return every field of one task by name."""
    page = TaskPage([row], [cause])
    return {name: convert(page)[0] for name, convert in FIELDS.items()}
