"""A ledger file that somebody edited by hand: every command answers, or names the row; none ends in a traceback."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.kit.clocks import SetClock
from tests.kit.filled import fill
from watcher.cli import main
from watcher.ledger.audit.chain import append
from watcher.ledger.audit.past import bind_past
from watcher.ledger.engine import open_engine
from watcher.ledger.tables import metadata
from watcher.ledger.transaction import Tx

VALUES: dict[str, Any] = {
    "text": "12x",
    "null": None,
    "blob": b"\xff\x00\x01",
    "huge": 2**63 - 1,
    "far away": 10**17,
    "negative": -5,
    "infinite": float("inf"),
    "fraction": 1.5,
    "controls": "\x1b[2J\n\0",
    "no UTF-8": b"\xffA\xfe",  # as text
}
COMMANDS = (
    "tasks list", "tasks list --json", "tasks list --csv", "tasks show 4", "explain 4 --json", "report --json",
    "audit verify", "audit root", "audit export OUT", "top --json",
)  # fmt: skip
# Each of these once ended in a traceback, or in "try later".
KNOWN = (
    ("tasks", "response", "text"),
    ("tasks", "seen_at_ms", "far away"),
    ("tasks", "hook_version", "no UTF-8"),
    ("sources", "chain_id", "text"),
    ("audit_entries", "hash", "huge"),
    ("journal", "at_ms", "no UTF-8"),
    ("attempts", "task_id", "no UTF-8"),
)
FEW_COMMANDS = ("tasks list --json", "explain 4", "audit root", "audit verify", "audit export OUT")
SAMPLES = 5


def drawn() -> list[tuple[str, str, str]]:
    seed = random.randrange(2**32)
    print(f"the seed of the edits is {seed}")
    every = [
        (table.name, column.name, kind) for table in metadata.sorted_tables for column in table.c for kind in VALUES
    ]
    return random.Random(seed).sample(every, SAMPLES)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with an audit chain over all of its rows."""
    path = tmp_path_factory.mktemp("hostile") / "original.db"
    engine = open_engine(fill(path, 330).url)
    with engine.begin() as conn:
        tx = Tx(conn, SetClock().now_ms())
        append(tx, 1, "commit", "", b"")
        while bind_past(tx, 1, 5000):
            pass
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return path


def edited(original: Path, copy: Path, table: str, column: str, kind: str) -> bool:
    """Edit one row by hand. Return False where SQLite refuses the value, or there is no row."""
    shutil.copy(original, copy)
    value = "CAST(? AS TEXT)" if kind == "no UTF-8" else "?"
    statement = (
        f'UPDATE "{table}" SET "{column}" = {value} WHERE rowid IN (SELECT rowid FROM "{table}" LIMIT 1 OFFSET ?)'
    )
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        rows = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
        try:
            return connection.execute(statement, (VALUES[kind], min(4, rows - 1))).rowcount == 1
        except sqlite3.IntegrityError:
            return False


def outcome(command: str, file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    out = file.with_name("bundle.jsonl")
    out.unlink(missing_ok=True)
    arguments = [str(out) if each == "OUT" else each for each in command.split()]
    code = main.run([*arguments, "--ledger", str(file)])
    return code, capsys.readouterr().err


def codes_of(
    commands: tuple[str, ...],
    case: tuple[str, str, str],
    original: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> set[int]:
    """Edit a ledger and run commands on it. Return their exit codes."""
    file = tmp_path / "edited.db"
    if not edited(original, file, *case):
        return set()
    codes = set()
    for command in commands:
        code, printed = outcome(command, file, capsys)
        assert code in (0, 1, 64), (case, command, printed)
        assert "Traceback" not in printed, (case, command, printed)
        codes.add(code)
    return codes


@pytest.mark.parametrize("case", KNOWN, ids=" ".join)
def test_edit_that_no_reader_expects_is_told_as_an_edit(
    case: tuple[str, str, str], original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 in codes_of(FEW_COMMANDS, case, original, tmp_path, capsys)
    assert outcome("audit verify", tmp_path / "edited.db", capsys)[0] == 1


def test_any_value_in_any_column_ends_in_no_traceback(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in drawn():
        codes_of(COMMANDS, case, original, tmp_path, capsys)


def test_ledger_without_an_edit_is_read_by_every_command(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "copy.db"
    shutil.copy(original, file)
    assert {outcome(command, file, capsys)[0] for command in COMMANDS} == {0}
