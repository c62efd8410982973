"""The columns of a list of tasks, as JSON, as cells of a CSV file, and as cells of a table.

The names are those of `tasks list --json`, an interface. A list of 100,000 tasks takes seconds, so a page of tasks is
converted column by column.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
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

    def __init__(self, columns: Mapping[str, Sequence[Any]], causes: Sequence[Cause]) -> None:
        """`columns`: those that the fields to print need (`columns_of`)."""
        self._columns = columns
        self.causes = causes
        self.size = max(map(len, columns.values()), default=0)

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of a column of the ledger."""
        return self._columns[name]


Convert = Callable[[TaskPage], Sequence[Value]]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a task: its values for a page, and the columns of the ledger that they are made from.

    `is_own`: hex or a time, which are ours: no spreadsheet takes one for a formula, and none holds a control character.
    """

    values: Convert
    columns: tuple[str, ...] = ()
    is_own: bool = False


@lru_cache(maxsize=4096)
def _second(s: int | None) -> str | None:
    return second_of(s)


@lru_cache(maxsize=256)
def _minute(minute: int) -> str:
    """Return the part of a time that all times of a minute share."""
    return str(time_of(minute * 60_000))[:17]


def _time(ms: int | None) -> str | None:
    """Return the same as `time_of`; times of one minute share their longest part."""
    return None if ms is None else f"{_minute(ms // 60_000)}{ms % 60_000 / 1000:06.3f}Z"


def _stored(column: str) -> Field:
    """Return the field that shows a column of the ledger."""
    if column.endswith("_at_ms"):
        return Field(lambda page: [_time(ms) for ms in page.column(column)], (column,), is_own=True)
    if column.endswith("_s"):
        return Field(lambda page: list(map(_second, page.column(column))), (column,), is_own=True)
    if column in _BYTES:
        return Field(
            lambda page: [None if data is None else "0x" + data.hex() for data in page.column(column)],
            (column,),
            is_own=True,
        )
    return Field(lambda page: page.column(column), (column,))


_BYTES = frozenset({
    "task_manager", "task_hash", "message", "quorum_numbers", "block_hash", "created_tx_hash", "response", "sig_hash",
    "tx_hash", "responded_tx_hash", "responded_by", "response_hash",
})  # fmt: skip


def _difference(last: str, first: str) -> Field:
    def values(page: TaskPage) -> list[Value]:
        pairs = zip(page.column(last), page.column(first), strict=True)
        return [None if end is None or start is None else end - start for end, start in pairs]

    return Field(values, (last, first))


def _field_name(column: str) -> str:
    return FIELD_NAMES.get(column, column.removesuffix("_ms"))


FIELDS: Mapping[str, Field] = {
    **{_field_name(column): _stored(column) for column in TASK_COLUMNS},
    # Derived: from the block of the task to that of its response, and why it is in its state.
    "response_blocks": _difference("responded_block", "block_number"),
    "response_s": _difference("responded_time_s", "block_time_s"),
    "is_history": Field(lambda page: list(map(bool, page.column("is_history"))), ("is_history",)),
    "reason": Field(lambda page: [cause.reason for cause in page.causes]),
    "next_at": Field(lambda page: [_time(cause.next_ms) for cause in page.causes], is_own=True),
    "next_block": Field(lambda page: [cause.next_block for cause in page.causes]),
}
"""Every field by name, in the order of the output."""
CAUSE_FIELDS = frozenset({"reason", "next_at", "next_block"})
"""The fields that need the cause of a task."""


def columns_of(names: Iterable[str]) -> list[str]:
    """Return the columns of the ledger that these fields need, also in a table."""
    marked = ("canonical",) if "state" in names else ()
    return list(dict.fromkeys([*marked, *(column for name in names for column in FIELDS[name].columns)]))


def json_objects(page: TaskPage, names: Sequence[str]) -> Iterator[str]:
    """Yield the tasks of a page, each as one JSON object with these fields."""
    members: list[str] = []
    columns: list[Sequence[Value]] = []
    for name in names:
        values = FIELDS[name].values(page)
        member = encode_basestring_ascii(name) + ": "
        if _is_one_value(values):
            members.append((member + _json(values[0])).replace("%", "%%"))
            continue
        is_quoted = FIELDS[name].is_own and None not in values
        members.append(member + ('"%s"' if is_quoted else "%s"))
        columns.append(values if is_quoted else _json_column(values))
    return _filled("{" + ", ".join(members) + "}", columns, page.size)


def _filled(form: str, columns: Sequence[Sequence[Value]], size: int) -> Iterator[str]:
    """Yield the form for each of `size` rows, with the values of the row in the columns."""
    rows: Iterable[tuple[Value, ...]] = zip(*columns, strict=True) if columns else repeat((), size)
    return (form % values for values in rows)


def _is_one_value(values: Sequence[Any]) -> bool:
    """Return True if a column has the same value in all rows, as many have; not 1 beside True."""
    if not values or values[0] != values[-1]:  # most of the others differ here
        return False
    return values.count(values[0]) == len(values) and len(set(map(type, values))) == 1


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


def csv_lines(page: TaskPage, names: Sequence[str]) -> Iterator[str]:
    """Yield the tasks of a page as lines of CSV (RFC 4180); no cell is a formula to a spreadsheet."""
    cells: list[str] = []
    columns: list[Sequence[Value]] = []
    for name in names:
        values = FIELDS[name].values(page)
        if _is_one_value(values):
            cells.append(_quoted(csv_cell(values[0])).replace("%", "%%"))
            continue
        cells.append("%s")
        columns.append(_csv_column(values, FIELDS[name].is_own))
    lines = _filled(",".join(cells) + "\r\n", columns, page.size)
    return lines if len(names) > 1 else ('""' + line if line == "\r\n" else line for line in lines)


def _csv_column(values: Sequence[Any], is_own: bool) -> Sequence[str]:
    """Return values as cells: our own texts as they are, and of others each distinct one looked at once."""
    if is_own:
        return ["" if value is None else value for value in values]
    kinds = set(map(type, values))
    if kinds == {int}:
        return list(map(str, values))
    if kinds <= {str, NoneType}:
        cells = {value: _quoted(csv_cell(value)) for value in set(values)}
        return [cells[value] for value in values]
    return [_quoted(csv_cell(value)) for value in values]


def _quoted(cell: str) -> str:
    """Return a cell without control characters in quotes where RFC 4180 wants them, as the module `csv` does it."""
    return '"' + cell.replace('"', '""') + '"' if "," in cell or '"' in cell else cell


def csv_cell(value: Value) -> str:
    """Return a value as a cell: control characters spelled out, and what begins like a formula behind an apostrophe."""
    if not isinstance(value, str):
        return "" if value is None else _json(value)
    cell = escape(value)
    return "'" + cell if _FORMULA.match(value) else cell


def table_rows(page: TaskPage, names: Sequence[str], width_chars: int | None) -> Iterator[Sequence[str]]:
    """Yield the cells of the tasks of a page. Longer ones are cut to `width_chars`, hex to less; None: none is."""
    columns = [[_cell(value, width_chars) for value in FIELDS[name].values(page)] for name in names]
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
    page = TaskPage({name: [value] for name, value in zip(row._fields, row, strict=True)}, [cause])
    return {name: field.values(page)[0] for name, field in FIELDS.items()}
