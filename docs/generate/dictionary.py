"""The data dictionary: every table, view and column of the ledger, and the metadata for datasette.

Everything comes from the code: forms, tables, and the comments of tables and columns.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Table

import watcher.ledger.schema  # noqa: F401 - declares all tables
from watcher.ledger.tables import metadata
from watcher.ledger.views import VIEWS

_PAGE = Path(__file__).parents[1] / "ledger.md"
_BEGIN = "<!-- Written by `make docs` from the comments in watcher/ledger/, up to the end mark. -->\n"
_END = "<!-- end -->\n"
_FORMS = {
    "hex": "0x hex",
    "ms": "ISO 8601, with milliseconds",
    "s": "ISO 8601",
    "number": "number",
    "flag": "1 or 0",
    "plain": "as stored",
}
_OF_THE_SCHEMA = ("alembic_version", "schema_compatibility", "sqlite_sequence")
_QUERIES = {
    "unanswered": (
        "Tasks without an answer of ours",
        (
            "SELECT task_index, state, created_at, deadline_block, answered_by, error FROM audit_task "
            "WHERE state IN ('expired', 'failed', 'skipped', 'final_other') ORDER BY task_id DESC LIMIT 1000"
        ),
    ),
    "slowest": (
        "The slowest answers",
        (
            "SELECT task_index, created_at, responded_at, response_s, response_blocks, attempts FROM audit_task "
            "WHERE response_s IS NOT NULL ORDER BY response_s DESC LIMIT 100"
        ),
    ),
    "by_hand": (
        "What people changed by hand",
        (
            "SELECT at, task_index, from_state, to_state, why FROM audit_journal WHERE why LIKE 'a person%' "
            "ORDER BY line_id DESC LIMIT 1000"
        ),
    ),
    "story": (
        "The story of one task",
        (
            "SELECT at, from_state, to_state, why FROM audit_journal "
            # Datasette passes text, which a number in SQLite never equals; an index of 2^63 or more is text.
            "WHERE task_index IN (:task_index, CAST(:task_index AS INTEGER)) ORDER BY line_id"
        ),
    ),
    "refusals": (
        "Attempts that the API did not accept",
        (
            "SELECT began_at, task_index, api, number, outcome, http_status, reason FROM audit_attempt "
            "WHERE kind = 'post' AND outcome <> 'accepted' ORDER BY attempt_id DESC LIMIT 1000"
        ),
    ),
}


def ledger_page() -> str:
    """`docs/ledger.md`: the written page, with the dictionary between its marks."""
    page = _PAGE.read_text("utf-8")
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return before + _BEGIN + "\n".join(_dictionary()) + "\n" + _END + after


def _dictionary() -> Iterator[str]:
    for name, view in VIEWS.items():
        yield from (f"### View `{name}`", "", view.about, "", "| column | form | meaning |", "|---|---|---|")
        yield from (f"| `{column.name}` | {_FORMS[column.form]} | {column.about} |" for column in view.columns)
        yield ""
    for table in metadata.sorted_tables:
        yield from (f"### Table `{table.name}`", "", table.comment or "")
        yield from ("", "| column | type | null | meaning |", "|---|---|---|---|")
        yield from _rows(table)
        yield ""


def _rows(table: Table) -> Iterator[str]:
    for column in table.columns:
        null = "yes" if column.nullable else ""
        yield f"| `{column.name}` | {type(column.type).__name__} | {null} | {column.comment or ''} |"


def datasette_file() -> str:
    """`monitoring/datasette.json`: what datasette shows beside a ledger, of any file name."""
    tables: dict[str, Any] = {
        name: {"description": view.about, "columns": {column.name: column.about for column in view.columns}}
        for name, view in VIEWS.items()
    }
    hidden = {name: {"hidden": True} for name in (*_OF_THE_SCHEMA, *(table.name for table in metadata.sorted_tables))}
    queries = {name: {"title": title, "sql": sql} for name, (title, sql) in _QUERIES.items()}
    document = {
        "title": "Ledger of an AVS watcher",
        "description": "Every task, attempt and transition. Bytes are hex, times ISO 8601 in UTC.",
        "databases": {"watcher": {"tables": tables | hidden, "queries": queries}},
    }
    return json.dumps(document, indent=2) + "\n"
