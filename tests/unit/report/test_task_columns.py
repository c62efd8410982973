"""The columns of a list: the same values as in JSON of one task, and no cell that a spreadsheet runs."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher.report.listing import task_fields
from watcher.report.story import Cause
from watcher.report.task_columns import (
    CAUSE_FIELDS,
    FIELDS,
    TaskPage,
    csv_cell,
    csv_lines,
    fields_of,
    json_objects,
    table_rows,
)

CAUSE = Cause("waits for \x1b[2J its turn", next_ms=1_700_000_000_123, next_block=7)


class Row(tuple[Any, ...]):
    """A row as SQLAlchemy gives it: a tuple with the names of its columns."""

    _fields: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        return self[self._fields.index(name)]


def row(**values: Any) -> Any:
    columns = {
        "chain_id": 31337, "task_manager": b"\x11" * 20, "task_index": 2**256 - 1, "task_hash": b"\xaa" * 32,
        "created_block": 5, "message": b"\xff", "quorum_numbers": b"\0", "quorum_threshold": 67, "deadline_block": None,
        "deadline_s": 2**62, "block_number": 6, "block_hash": b"\xbb" * 32, "created_tx_hash": b"\xcc" * 32,
        "canonical": False, "state": "final", "hook_attempts": 0, "attempts": 1, "response": b"", "hook_version": "v",
        "sig_hash": None, "tx_hash": None, "responded_block": 9, "responded_tx_hash": b"\xdd" * 32,
        "response_hash": None, "error": "a \"quote\", \u2028 and \x00", "seen_at_ms": 1_700_000_000_005,
        "updated_at_ms": -1, "block_time_s": 1_700_000_000, "responded_time_s": 1_700_000_036,
        "responded_by": b"\x5e" * 20, "is_history": 0,
    } | values  # fmt: skip
    made = Row(columns.values())
    made._fields = tuple(columns)
    return made


def page_of(rows: Sequence[Any], causes: Sequence[Cause]) -> TaskPage:
    names = row()._fields
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return TaskPage(dict(zip(names, columns, strict=True)), causes)


def test_a_listed_task_has_the_fields_and_values_of_a_single_one() -> None:
    fields = fields_of(row(), CAUSE)
    assert {name: fields[name] for name in task_fields(row())} == task_fields(row())
    derived = {"response_blocks": 3, "response_s": 36, "is_history": False, "next_block": 7}
    assert derived.items() <= fields.items()
    assert fields["next_at"] == "2023-11-14T22:13:20.123Z"


def test_a_line_of_json_is_what_json_writes() -> None:
    (line,) = json_objects(page_of([row()], [CAUSE]), list(FIELDS))
    assert json.loads(line) == fields_of(row(), CAUSE)
    assert line == json.dumps(fields_of(row(), CAUSE))


TEXTS = st.none() | st.text(max_size=5) | st.sampled_from(["=1", "final", "a\x00", 'a "%s", b', "%", ""])
NUMBERS = st.none() | st.integers(0, 2**63)
MIXED = st.fixed_dictionaries(
    {
        "error": TEXTS,
        "hook_version": TEXTS,
        "state": TEXTS | NUMBERS,  # SQLite keeps any type in any column
        "canonical": st.booleans() | st.integers(0, 1),
        "deadline_block": NUMBERS,
        "deadline_s": NUMBERS,
        "response": st.none() | st.binary(max_size=3),
        "attempts": st.integers(0, 2) | st.booleans(),
    }
)


@fuzzed
@given(st.lists(MIXED, max_size=5))
def test_a_page_has_the_values_of_its_tasks_whatever_the_mix_of_types(tasks: list[dict[str, Any]]) -> None:
    rows = [row(**task) for task in tasks]
    page, fields = page_of(rows, [CAUSE] * len(rows)), [fields_of(each, CAUSE) for each in rows]
    assert list(json_objects(page, list(FIELDS))) == [json.dumps(task) for task in fields]
    for names in (list(FIELDS), ["error"]):
        out = io.StringIO()
        csv.writer(out).writerows([csv_cell(task[name]) for name in names] for task in fields)
        assert "".join(csv_lines(page, names)) == out.getvalue()


def test_fields_without_causes_need_none() -> None:
    names = [name for name in FIELDS if name not in CAUSE_FIELDS]
    (line,) = json_objects(page_of([row()], []), names)
    assert json.loads(line) == {name: fields_of(row(), CAUSE)[name] for name in names}


def test_an_empty_page_has_no_lines() -> None:
    page = page_of([], [])
    assert list(json_objects(page, list(FIELDS))) == list(csv_lines(page, list(FIELDS))) == []
    assert list(table_rows(page, ["state", "reason"], 60)) == []


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r\n", "\uff1d1", "\uff0d2"])
def test_a_cell_that_begins_like_a_formula_is_text(text: str) -> None:
    assert csv_cell(text).startswith("'")


@pytest.mark.parametrize("value", ["0x2d", "final", "2023-11-14", "", "a=b", 5, None, True])
def test_an_ordinary_cell_stays_as_it_is(value: Any) -> None:
    assert csv_cell(value) == {None: "", True: "true", 5: "5"}.get(value, value)


@fuzzed
@given(st.text(max_size=30))
def test_any_text_survives_csv_without_controls_and_formulas(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow(["x", csv_cell(text)])
    ((_, cell),) = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert cell.isprintable() and cell[:1] not in tuple("=+-@")
    assert out.getvalue().endswith("\r\n")


def test_a_table_cuts_long_cells_and_marks_what_is_off_chain() -> None:
    (cells,) = table_rows(page_of([row()], [CAUSE]), ["state", "task_hash", "reason"], 10)
    assert cells == ("final (off chain)", "0xaaaaaaa…", "waits for…")
    (whole,) = table_rows(page_of([row()], [CAUSE]), ["task_hash"], None)
    assert whole == ("0x" + "aa" * 32,)
