"""The data dictionary describes what there is, and datasette's queries run on a ledger."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from docs.generate import dictionary
from tests.kit.filled import fill
from watcher.ledger.tables import metadata
from watcher.ledger.views import VIEWS


def test_every_table_and_column_has_its_comment() -> None:
    for table in metadata.sorted_tables:
        assert table.comment, table.name
        assert [column.name for column in table.columns if not column.comment] == [], table.name


def test_datasette_describes_the_views_and_its_queries_run(tmp_path: Path) -> None:
    path = tmp_path / "watcher.db"
    fill(path, 400)
    database = json.loads(dictionary.datasette_file())["databases"]["watcher"]
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        for name, query in database["queries"].items():
            rows = connection.execute(query["sql"], {"task_index": "3"}).fetchall()  # as datasette passes it
            assert (name, len(rows)) in (
                ("story", 7),
                ("slowest", 0),
                ("by_hand", 0),
                ("refusals", 0),
                ("unanswered", 2),
            )
        for name in VIEWS:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            assert list(database["tables"][name]["columns"]) == columns
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert database["tables"].keys() <= tables
