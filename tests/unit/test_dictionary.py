"""The data dictionary describes what there is, and datasette's queries run on a ledger."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from docs.generate import dictionary
from tests.kit.filled import fill
from watcher.ledger.tables import metadata
from watcher.ledger.views import VIEWS

_DESCRIBED = ("sources", "tasks", "responses", "attempts", "journal", "events", "periods", "coverage", "ended_counts")


@pytest.mark.parametrize("name", _DESCRIBED)
def test_every_column_of_a_table_has_its_sentence(name: str) -> None:
    assert [column.name for column in metadata.tables[name].columns if not dictionary.about(name, column.name)] == []


def test_no_sentence_is_about_a_column_that_is_gone() -> None:
    texts = {name: texts for name, texts in dictionary._TEXTS.items() if name != "common"}
    assert texts.keys() <= metadata.tables.keys()
    for name, columns in texts.items():
        assert columns.keys() - {""} <= {column.name for column in metadata.tables[name].columns}, name


def test_datasette_describes_the_views_and_its_queries_run(tmp_path: Path) -> None:
    path = tmp_path / "watcher.db"
    fill(path, 400)
    database = json.loads(dictionary.datasette_file())["databases"]["watcher"]
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        for query in database["queries"].values():
            assert connection.execute(query["sql"], {"task_index": 3}).fetchall() is not None
        for name in VIEWS:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            assert list(database["tables"][name]["columns"]) == columns
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert database["tables"].keys() <= tables
