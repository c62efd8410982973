"""Looks at what a victim left behind, with sqlite3 alone: right after it died, and when the next life is through."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.killpoints.ground import TASKS
from watcher.state import LEGAL, State


def _open(folder: Path) -> Any:
    return closing(sqlite3.connect(f"file:{folder}/ledger.db?mode=ro", uri=True, timeout=5))


def kept(folder: Path, acknowledged: Sequence[Sequence[Any]]) -> list[str]:
    """What was acknowledged and is not there; the file's own trouble."""
    with _open(folder) as ledger:
        wrongs = [f"damaged: {row[0]}" for row in ledger.execute("PRAGMA integrity_check") if row[0] != "ok"]
        cursor = (ledger.execute("SELECT cursor_block FROM sources").fetchone() or (-1,))[0]
        answers = dict(ledger.execute("SELECT task_index, response FROM tasks"))
        query = (
            "SELECT t.task_index, a.number, a.ended_at_ms FROM attempts a JOIN tasks t ON t.id = a.task_id "
            "WHERE a.kind = 'post'"
        )
        attempts = {(index, number): ended for index, number, ended in ledger.execute(query)}
    for promise in acknowledged:
        match list(promise):
            case ["read", block]:
                holds = cursor >= block
            case ["answer", index, answer]:
                holds = answers.get(index) == bytes.fromhex(answer)
            case ["begun", index, number]:
                holds = (index, number) in attempts
            case ["settled", index, number]:
                holds = attempts.get((index, number)) is not None
            case _:
                raise AssertionError(f"nobody knows how to check {promise}")
        if not holds:
            wrongs.append(f"acknowledged and lost: {promise[0]} {list(promise[1:])}")
    return wrongs


def ended(folder: Path) -> list[str]:
    """What is wrong once everything has come to its end."""
    with _open(folder) as ledger:
        wrongs = [f"damaged: {row[0]}" for row in ledger.execute("PRAGMA integrity_check") if row[0] != "ok"]
        rows = ledger.execute("SELECT id, task_index, state, response FROM tasks").fetchall()
        transitions = ledger.execute("SELECT task_id, from_state, to_state FROM journal ORDER BY id").fetchall()
        begun = ledger.execute(
            "SELECT t.task_index, count(*), count(DISTINCT a.number), count(DISTINCT a.request_digest) "
            "FROM attempts a JOIN tasks t ON t.id = a.task_id WHERE a.kind = 'post' GROUP BY a.task_id"
        ).fetchall()
    if sorted(row[1] for row in rows) != list(range(TASKS)):
        wrongs.append(f"the ledger holds {len(rows)} tasks")
    posts: dict[int, list[bytes]] = defaultdict(list)
    for line in (folder / "posts").read_text().splitlines():
        index, answer = json.loads(line)
        posts[index].append(bytes.fromhex(answer[2:]))
    for _, index, state, response in rows:
        if state != State.FINAL:
            wrongs.append(f"task {index} ended as {state}")
        if set(posts[index]) != {response}:
            wrongs.append(f"task {index}: the answers sent are {posts[index]}, the ledger's is {response}")
    for index, count, numbers, digests in begun:
        if count != numbers or digests != 1 or count < len(posts[index]):
            wrongs.append(f"task {index}: {count} attempts, {digests} digests, {len(posts[index])} POSTs")
    unrecorded = set(posts) - {index for index, *_ in begun}
    wrongs += [f"task {index}: POSTs without an attempt" for index in sorted(unrecorded)]
    return wrongs + _history(rows, transitions)


def _history(rows: Sequence[Any], transitions: Sequence[Any]) -> list[str]:
    """The journal of each task is one path of legal moves, and ends where the task is."""
    wrongs: list[str] = []
    at: dict[int, str | None] = {}
    for task, before, after in transitions:
        if at.get(task) != before or (before is not None and State(after) not in LEGAL[State(before)]):
            wrongs.append(f"row {task}: a move from {before} to {after}, being {at.get(task)}")
        at[task] = after
    apart = [(row[0], row[2]) for row in rows if at.get(row[0]) != row[2]]
    return wrongs + [f"row {row} is {state}, its journal says {at.get(row)}" for row, state in apart]
