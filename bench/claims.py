"""The time of a claim on PostgreSQL in front of any number of ended tasks, and the index that its plan uses.

    python -m bench.claims [ROWS]

The server makes the rows itself, as copies of one task that has ended (INSERT ... SELECT generate_series): about a
minute and 1 GB for each million. Claims are those of the stages `respond` and `submit`, with their commit.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from random import Random
from typing import Any

from sqlalchemy import Connection, Engine, Select, create_engine, event, insert, literal, select, text
from sqlalchemy.sql.expression import column, func

from bench.postgres import database, server
from watcher.clock import SystemClock
from watcher.ledger import claims, ingest, outcomes, schema
from watcher.ledger.claims import Release, RetryAt
from watcher.ledger.engine import open_engine, parse_url
from watcher.ledger.store import Ledger, open_ledger
from watcher.ledger.tables import tasks
from watcher.state import State
from watcher.task import Header, Sighting, Task

_ROWS, _CHUNK = 1_000_000, 1_000_000
_OPEN = 500
_CLAIMED = 32
_CLAIMS = 100
_CHAIN_ID, _MANAGER = 31337, b"\x11" * 20
_TO_SEND = (State.COMPUTED, State.WAITING, State.BLOCKED)


def _task(index: int, random: Random) -> Task:
    seen_at = Sighting(101, b"\x22" * 32, random.randbytes(32), index)
    return Task(
        chain_id=_CHAIN_ID,
        task_manager=_MANAGER,
        task_index=index,
        task_hash=random.randbytes(32),
        created_block=101,
        message=random.randbytes(32),
        quorum_numbers=b"\x00",
        quorum_threshold=67,
        deadline_block=None,
        seen_at=seen_at,
    )


async def _record(ledger: Ledger) -> None:
    """Record open tasks, and admit them."""
    random, header = Random(1), Header(110, b"\x22" * 32, b"\x33" * 32)
    new = [_task(index, random) for index in range(_OPEN)]
    await ledger.write(ingest.record, ledger.source_id, new, [], header, header.number)
    seen = await ledger.read(outcomes.to_admit, ledger.source_id, 0, SystemClock().now_ms(), _OPEN)
    await ledger.write(outcomes.admitted, seen, header)


def _fill(engine: Engine, rows: int) -> None:
    """Copy the first task so often; the copies have ended."""
    first = select(func.min(tasks.c.id)).scalar_subquery()
    names = [item.name for item in tasks.c if item.name != "id"]
    for begin in range(0, rows, _CHUNK):
        span = func.generate_series(begin + 1, min(begin + _CHUNK, rows))
        number = span.table_valued(column("number")).render_derived(name="numbers")
        own = {
            "task_index": _OPEN + number.c.number,
            "task_hash": func.sha256(func.convert_to(func.concat("task", number.c.number), "UTF8")),
            "state": literal(State.FINAL.value),
            "log_index": _OPEN + number.c.number,
        }
        values = [own.get(name, tasks.c[name]) for name in names]
        copies = select(*values).select_from(tasks.join(number, literal(True))).where(tasks.c.id == first)
        with engine.begin() as conn:
            conn.execute(insert(tasks).from_select(names, copies))
        print(f"{min(begin + _CHUNK, rows)} rows", file=sys.stderr, flush=True)
    plain = create_engine(engine.url, isolation_level="AUTOCOMMIT")  # VACUUM takes no transaction
    with plain.connect() as conn:
        conn.execute(text("VACUUM ANALYZE tasks"))
    plain.dispose()


def _scans(plan: dict[str, object]) -> set[str]:
    """Return the ways in which a plan reads the tasks: the names of indices, or the kind of a scan without one."""
    kind, index = str(plan["Node Type"]), str(plan.get("Index Name", ""))
    own = {index or kind} if "Scan" in kind and "tasks" in (index or str(plan.get("Relation Name", ""))) else set()
    parts = plan.get("Plans", ())
    assert isinstance(parts, Sequence)
    return own.union(*(_scans(part) for part in parts))


def _plan(conn: Connection, statement: Select[object], parameters: dict[str, object]) -> set[str]:
    sent: list[tuple[str, Any]] = []
    event.listen(conn, "before_cursor_execute", lambda *call: sent.append((call[2], call[3])))
    conn.execute(statement, parameters)
    return _scans(conn.exec_driver_sql("EXPLAIN (FORMAT JSON) " + sent[0][0], sent[0][1]).scalar_one()[0]["Plan"])


async def _claim_ms(ledger: Ledger, states: Sequence[State]) -> float:
    """Return the time of one claim with its commit. The tasks are given back."""
    began_s = time.perf_counter()
    claimed = await ledger.write(claims.claim, ledger.source_id, states, _CLAIMED, 60_000)
    took_ms = (time.perf_counter() - began_s) * 1000
    if claimed:
        await ledger.write(claims.release_each, [Release(task, RetryAt()) for task in claimed])
    return took_ms


async def measure(url: str, rows: int) -> dict[str, object]:
    """Return the figures for a ledger with so many ended tasks."""
    parsed = parse_url(url)
    schema.upgrade(parsed)
    engine = open_engine(parsed)
    async with open_ledger(parsed, SystemClock(), _CHAIN_ID, _MANAGER, 100) as ledger:
        await _record(ledger)
        few = [await _claim_ms(ledger, [State.READY]) for _ in range(_CLAIMS)]
        began_s = time.monotonic()
        await asyncio.to_thread(_fill, engine, rows)
        filled_s = time.monotonic() - began_s
        many = [await _claim_ms(ledger, [State.READY]) for _ in range(_CLAIMS)]
        none = [await _claim_ms(ledger, _TO_SEND) for _ in range(_CLAIMS)]
        parameters: dict[str, object] = {"source": ledger.source_id, "now_ms": SystemClock().now_ms(), "limit": 10}
        plans: set[str] = set()
        for states in ((State.READY,), _TO_SEND):
            with engine.begin() as conn:
                plans |= _plan(conn, claims._claimable(states, above=False).statement, parameters)
    with engine.connect() as conn:
        size = conn.execute(select(func.pg_total_relation_size("tasks"))).scalar_one()
    engine.dispose()
    return {
        "rows": rows,
        "filled_in_s": round(filled_s),
        "tasks_mib": round(size / 2**20),
        "plans": sorted(plans),
        f"claim_{_CLAIMED}_ms": _spread(many),
        f"claim_{_CLAIMED}_before_ms": _spread(few),
        "claim_nothing_ms": _spread(none),
    }


def _spread(times_ms: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times_ms), 2), "p95": round(sorted(times_ms)[_CLAIMS * 95 // 100], 2)}


def main() -> None:
    """Print the figures as JSON."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else _ROWS
    with server() as server_url, database(server_url) as url:
        print(json.dumps(asyncio.run(measure(url, rows)), indent=1))


if __name__ == "__main__":
    main()
