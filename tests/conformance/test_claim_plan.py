"""A claim on PostgreSQL reads the tasks that are due, by their index, however many have ended."""

import os
import time
from typing import Any

import pytest
from sqlalchemy import Connection, Select, event, insert, literal, select, text
from sqlalchemy.sql.expression import column, func

from tests.conformance.rig import LEASE_MS, LedgerRig, make_task
from watcher.ledger import claims
from watcher.ledger.claims import _claimable
from watcher.ledger.tables import tasks
from watcher.state import State

ENDED_TASKS = int(os.environ.get("WATCHER_CLAIM_ROWS", "20000"))
OPEN_TASKS = 40
_STATES = ((State.READY,), (State.COMPUTED, State.WAITING, State.BLOCKED))


def fill(conn: Connection) -> None:
    """Copy the first task as often as `ENDED_TASKS` says, with ends of their own."""
    number = func.generate_series(1, ENDED_TASKS).table_valued(column("number")).render_derived(name="numbers")
    others = {
        "task_index": 1_000_000 + number.c.number,
        "task_hash": func.sha256(func.convert_to(func.concat("task", number.c.number), "UTF8")),
        "state": literal(State.FINAL.value),
        "log_index": number.c.number,
    }
    names = [item.name for item in tasks.c if item.name != "id"]
    values = [others.get(name, tasks.c[name]) for name in names]
    first = select(func.min(tasks.c.id)).scalar_subquery()
    copies = select(*values).select_from(tasks.join(number, literal(True))).where(tasks.c.id == first)
    conn.execute(insert(tasks).from_select(names, copies))
    conn.execute(text("ANALYZE tasks"))


def scans(plan: Any) -> set[str]:
    """Return the ways in which a plan reads the tasks: the names of indices, or the kind of a scan without one."""
    names = {plan["Node Type"]} if plan["Node Type"] == "Seq Scan" and plan["Relation Name"] == "tasks" else set()
    if "tasks" in plan.get("Index Name", ""):
        names.add(plan["Index Name"])
    return names.union(*(scans(part) for part in plan.get("Plans", ())))


def explained(conn: Connection, statement: Select[Any], parameters: dict[str, Any]) -> Any:
    """Return the plan of a statement as it is sent."""
    sent: list[tuple[str, Any]] = []
    event.listen(conn, "before_cursor_execute", lambda *call: sent.append((call[2], call[3])))
    conn.execute(statement, parameters)
    return conn.exec_driver_sql("EXPLAIN (FORMAT JSON) " + sent[0][0], sent[0][1]).scalar_one()


@pytest.mark.edits_rows
async def test_claim_reads_by_the_index_of_due_tasks(ledger: LedgerRig) -> None:
    if ledger.is_sqlite:
        pytest.skip("tests/integration/test_ledger_plans.py does so for SQLite")
    await ledger.record(*(make_task(index) for index in range(OPEN_TASKS)))
    await ledger.admit()
    with ledger.engine.begin() as conn:
        fill(conn)
    parameters = {"source": ledger.source, "now_ms": ledger.clock.now_ms(), "limit": 10}
    for states in _STATES:
        with ledger.engine.begin() as conn:
            plan = explained(conn, _claimable(states, above=False).statement, parameters)
        assert scans(plan[0]["Plan"]) == {"ix_tasks_open"}, plan
    began_s = time.perf_counter()
    assert len(await ledger.store.write(claims.claim, ledger.source, [State.READY], 10, LEASE_MS)) == 10
    print(f"claimed 10 of {ENDED_TASKS + OPEN_TASKS} tasks in {(time.perf_counter() - began_s) * 1000:.1f} ms")
