"""A process killed in the middle of its commits has lost nothing it was told was done."""

import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER
from tests.kit.clocks import SetClock
from watcher.ledger import queries, schema, sending
from watcher.ledger.lock import sole_writer
from watcher.ledger.store import open_ledger
from watcher.state import State

ROOT = Path(__file__).parents[2]

# Every line is written in one go after the commit it tells of: what is read here was acknowledged.
WORKER = """
import asyncio, os, sys
from sqlalchemy.engine import URL
from tests import single_results as hook_results
from tests.conformance.rig import CHAIN_ID, MANAGER, make_task, header
from watcher.clock import SystemClock
from watcher.ledger import ingest, outcomes, claims, sending
from watcher.ledger.store import open_ledger
from watcher.ledger.lock import sole_writer
from watcher.task import Response, State

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

async def answer(ledger, held):
    await ledger.write(hook_results.keep_answer, held, Response(held.task.task_index.to_bytes(8, "big"), "hook", 1))
    say("answered", held.task.task_index)
    (attempt,) = await ledger.write(sending.begin, [held_again(held)], "proxy", {held.row_id: bytes(32)}, 60_000)
    say("sending", held.task.task_index)

def held_again(held):
    from dataclasses import replace
    return replace(held, state=State.COMPUTED)

async def main(path, first):
    url = URL.create("sqlite", database=path)
    with sole_writer(url):
        async with open_ledger(url, SystemClock(), CHAIN_ID, MANAGER, 100) as ledger:
            await ledger.write(sending.recover_stale, ledger.source_id, all_of_them=True)
            for start in range(first, 10**9, 8):
                block = 101 + start
                found = [make_task(index, block=block, deadline=None) for index in range(start, start + 8)]
                await ledger.write(ingest.record, ledger.source_id, found, [], header(block), block)
                say("recorded", start + 7)
                held = await ledger.read(outcomes.to_admit, ledger.source_id, 0, SystemClock().now_ms(), 100)
                await ledger.write(outcomes.admitted, held, header(block))
                claimed = await ledger.write(claims.claim, ledger.source_id, [State.READY], 100, 60_000)
                await asyncio.gather(*(answer(ledger, one) for one in claimed))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def run_and_kill(path: Path, first: int, after_s: float) -> list[tuple[str, int]]:
    """Let the worker acknowledge something, kill it a moment later, and return all it had acknowledged."""
    command = [sys.executable, "-c", WORKER, str(path), str(first)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as worker:
        assert worker.stdout is not None
        line = worker.stdout.readline()
        assert line, "the worker ended by itself"
        time.sleep(after_s)  # the moment of the kill is the one thing here that ought to be random
        worker.kill()
        lines = [line, *worker.stdout]
        worker.wait(10)
    return [(what, int(index)) for what, index in (line.decode().split() for line in lines if line.endswith(b"\n"))]


@pytest.mark.parametrize("seed", range(4))
async def test_no_acknowledged_verb_is_lost_to_a_kill(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "watcher.db"
    url = URL.create("sqlite", database=str(path))
    schema.upgrade(url)
    moments = random.Random(seed)
    acknowledged: list[tuple[str, int]] = []
    first = 0
    for _ in range(2):
        lines = run_and_kill(path, first, moments.uniform(0, 0.15))
        acknowledged += lines
        first = 8 + max(index for what, index in acknowledged if what == "recorded") // 8 * 8 + 8
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []

    with sole_writer(url):  # the lock went with the process
        async with open_ledger(url, SetClock(), CHAIN_ID, MANAGER, 100) as ledger:
            rows = await ledger.read(
                lambda conn: {row.task_index: row for row in queries.list_tasks(conn, ledger.source_id)}
            )
            cursor = await ledger.read(queries.cursor, ledger.source_id)
            for what, index in acknowledged:
                row = rows[index]
                if what == "recorded":
                    assert cursor.block >= row.block_number
                else:
                    assert row.response == index.to_bytes(8, "big")
                if what == "sending":
                    assert row.attempts == 1
            await ledger.write(sending.recover_stale, ledger.source_id, all_of_them=True)
            counts = await ledger.read(queries.count_by_state, ledger.source_id)
            assert State.SENDING not in counts
            for row in rows.values():
                transitions, tries = await ledger.read(queries.story_of, row.id)
                assert transitions[0].to_state == "seen"
                posts = [attempt for attempt in tries if attempt.kind == "post"]
                assert len(posts) == row.attempts
                if row.state == State.SENDING:
                    assert posts and transitions[-1].to_state == "unknown"
