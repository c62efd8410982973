"""The views for SQL: readable, the same on both databases, and never an error, whatever a row holds."""

import re
from dataclasses import replace
from typing import Any

from sqlalchemy import text

from tests.conformance.rig import LedgerRig, header, make_task
from watcher.ledger import backfill, manual
from watcher.ledger.views import VIEWS
from watcher.state import State

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


async def rows(ledger: LedgerRig, query: str) -> list[Any]:
    return await ledger.read(lambda conn: list(conn.execute(text(query)).mappings()))


async def test_each_view_has_the_columns_it_promises(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    for name, view in VIEWS.items():
        (row, *_) = await rows(ledger, f"SELECT * FROM {name}")
        assert list(row) == [column.name for column in view.columns]


async def test_bytes_are_hex_and_times_are_iso(ledger: LedgerRig) -> None:
    await ledger.bring(replace(make_task(0), deadline_block=None, deadline_s=2**61), to=State.RESPONDED)
    answered_in = (await ledger.row(0)).responded_block
    times = {101: 1_700_000_000, answered_in: 1_700_000_036}
    blocks = [replace(header(number), timestamp_s=time_s) for number, time_s in times.items()]
    await ledger.write(backfill.record_times, ledger.source, blocks)
    (task,) = await rows(ledger, "SELECT * FROM audit_task")
    expected = {
        "task_hash": "0x" + make_task(0).task_hash.hex(),
        "created_at": "2023-11-14T22:13:20Z",
        "responded_at": "2023-11-14T22:13:56Z",
        "response_s": 36,
        "deadline_at": None,
        "responded_by": None,
        "answered_by": "ours",
        "canonical": 1,
        "task_index": 0,
    }
    assert {name: task[name] for name in expected} == expected
    for attempt in await rows(ledger, "SELECT * FROM audit_attempt"):
        assert _TIME.fullmatch(attempt["began_at"]) and attempt["task_index"] == 0
    journal = await rows(ledger, "SELECT * FROM audit_journal ORDER BY line_id")
    assert [line["to_state"] for line in journal][:2] == ["seen", "ready"]
    assert all(_TIME.fullmatch(line["at"]) for line in journal)


async def test_a_huge_index_is_readable(ledger: LedgerRig) -> None:
    await ledger.record(make_task(2**255))
    await ledger.write(manual.skip, ledger.source, 2**255, "\x1b[2J", "alice@host")
    (line,) = await rows(ledger, "SELECT * FROM audit_journal WHERE to_state = 'skipped'")
    assert line["task_index"] == ("0x80" + "00" * 31 if ledger.is_sqlite else 2**255)
