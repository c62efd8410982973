"""Ledgers filled by copying rows."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.filler import fill

_TABLES = """
CREATE TABLE tasks (id INTEGER PRIMARY KEY, task_index, task_hash);
CREATE TABLE attempts (id INTEGER PRIMARY KEY, task_id, kind);
CREATE TABLE journal (id INTEGER PRIMARY KEY, task_id, attempt_id, to_state);
CREATE TABLE responses (id INTEGER PRIMARY KEY, task_index, message);
CREATE TABLE ended_counts (state, tasks);
INSERT INTO tasks VALUES (1, 0, 'a'), (2, 1, 'b');
INSERT INTO attempts VALUES (1, 1, 'hook'), (2, 2, 'hook'), (5, 2, 'post');
INSERT INTO journal VALUES (1, 1, NULL, 'seen'), (2, 2, 5, 'final');
INSERT INTO responses VALUES (7, 1, 'm');
INSERT INTO ended_counts VALUES ('final', 2);
"""


def _filled(tmp_path: Path, copies: int) -> dict[str, list[Any]]:
    template, target = tmp_path / "template.db", tmp_path / "filled.db"
    with closing(sqlite3.connect(template)) as db:
        db.executescript(_TABLES)
    assert fill(template, target, copies) == 2 * copies
    with closing(sqlite3.connect(target)) as db:
        tables = ("tasks", "attempts", "journal", "responses", "ended_counts")
        return {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


def test_each_copy_has_indices_and_ids_of_its_own(tmp_path: Path) -> None:
    rows = _filled(tmp_path, 3)
    assert rows["tasks"] == [(1, 0, "a"), (2, 1, "b"), (3, 2, "a"), (4, 3, "b"), (5, 4, "a"), (6, 5, "b")]
    assert [row[1] for row in rows["responses"]] == [1, 3, 5]
    assert rows["ended_counts"] == [("final", 6)]


def test_copied_rows_refer_to_copies(tmp_path: Path) -> None:
    rows = _filled(tmp_path, 2)
    owners = {attempt[0]: attempt[1] for attempt in rows["attempts"]}
    assert sorted(owners.values()) == [1, 2, 2, 3, 4, 4]
    last = rows["journal"][-1]
    assert last[1:] == (4, 10, "final")
    assert owners[10] == 4
    assert rows["journal"][2] == (3, 3, None, "seen")


def test_one_copy_is_the_template(tmp_path: Path) -> None:
    assert len(_filled(tmp_path, 1)["tasks"]) == 2
