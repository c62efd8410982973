"""A ledger that somebody has changed by hand: the proof names each task that is not as the chain tells it."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from rich.progress import Progress
from sqlalchemy import update
from sqlalchemy.engine import URL

from tests.system.audited_rig import ANSWERED, EXPIRED, audited_rig
from tests.system.daemon_rig import Rig
from watcher.cli.audit import check_ledger
from watcher.cli.prove import prove_now
from watcher.ledger.audit.chain import digests, walk
from watcher.ledger.audit.changes import Bound
from watcher.ledger.audit.check import Check
from watcher.ledger.audit.record import link, pack_leaves, unpack_leaves
from watcher.ledger.audit.tables import audit_entries
from watcher.ledger.engine import open_engine
from watcher.ledger.reader import Reader
from watcher.report.proof import Proof
from watcher.settings.load import load

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with audited_rig(tmp_path_factory.mktemp("tampering")) as rig:
        assert (await rig.prove())["ok"] is True
        with sqlite3.connect(rig.ledger) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        yield rig


@pytest.fixture
def ledger(rig: Rig, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copy(rig.ledger, tmp_path / "copy.db"))


LIES = {
    "another state": (ANSWERED, "state = 'expired'"),
    "a state that gives the task up": (ANSWERED, "state = 'orphaned'"),
    "no state at all": (ANSWERED, "state = 'bogus'"),
    "an answer nobody gave": (EXPIRED, "state = 'final'"),
    "a chain without the task": (EXPIRED, "state = 'orphaned'"),
    "a window that is still open": (EXPIRED, "deadline_block = 100000"),
    "other bytes sent": (ANSWERED, "response = x'1234'"),
    "another hash of the answer": (ANSWERED, "response_hash = zeroblob(32)"),
    "another block of the answer": (ANSWERED, "responded_block = 1"),
    "another task": (ANSWERED, "task_hash = zeroblob(32)"),
    "another message": (ANSWERED, "message = x'01'"),
    "another creation": (ANSWERED, "created_block = 1"),
    "another threshold": (EXPIRED, "quorum_threshold = 1"),
    "other quorums": (EXPIRED, "quorum_numbers = x'05'"),
    "another log": (ANSWERED, "log = (SELECT log FROM tasks WHERE task_index = 0)"),
    "no log": (ANSWERED, "log = x''"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_each_lie_is_told(rig: Rig, ledger: Path, lie: str) -> None:
    index, change = LIES[lie]
    with sqlite3.connect(ledger) as connection:
        assert connection.execute(f"UPDATE tasks SET {change} WHERE task_index = ?", (index,)).rowcount == 1
    connection.close()
    done = await rig.command("prove", "--json", environment={"WATCHER_LEDGER__URL": f"sqlite:///{ledger}"})
    assert (done.code, done.json["ok"], done.json["mismatched"]) == (1, False, [index]), done


# A column of a task, and what somebody writes into it.
WRITTEN = {
    "deadline_block": (ANSWERED, "deadline_block + 1"),
    "block_number": (ANSWERED, "1"),
    "block_hash": (ANSWERED, "zeroblob(32)"),
    "created_tx_hash": (EXPIRED, "zeroblob(32)"),
    "block_time_s": (EXPIRED, "block_time_s - 3600"),
    "responded_block": (ANSWERED, "responded_block - 1"),
    "responded_tx_hash": (ANSWERED, "zeroblob(32)"),
    "responded_time_s": (ANSWERED, "1"),
    "responded_by": (ANSWERED, "zeroblob(20)"),
}


async def _proof_of(rig: Rig, ledger: Path) -> Proof:
    """The proof of another ledger, without the price of a process."""
    overrides = {"operator.api": "none", "ledger.url": f"sqlite:///{ledger}"}
    return await prove_now(load(rig.config, overrides, rig.environment), Progress(disable=True))


async def test_an_honest_ledger_differs_from_its_logs_in_nothing(rig: Rig, ledger: Path) -> None:
    proof = await _proof_of(rig, ledger)
    assert (proof.compared, proof.differences, proof.unchecked) == (2, [], [])
    assert (proof.complete, proof.answered, proof.missed, proof.not_yet_answered) == (True, 1, 1, 0)
    (sender,) = proof.senders
    (task,) = [task for task in await rig.tasks() if task["task_index"] == ANSWERED]
    transaction = await rig.net.chain.rpc.call("eth_getTransactionByHash", task["responded_tx_hash"])
    assert (sender.address, sender.answered_by_us, sender.read) == (transaction["from"].lower(), 1, 1)


@pytest.mark.parametrize("log", [b"", b"\xff" * 32, b"\x00" * 320])
async def test_an_edited_log_of_a_response_is_a_mismatch(rig: Rig, ledger: Path, log: bytes) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE responses SET log = ?", (log,))
    connection.close()
    proof = await _proof_of(rig, ledger)
    assert (proof.ok, proof.mismatched) == (False, [ANSWERED])


@pytest.mark.parametrize("column", WRITTEN)
async def test_each_column_that_the_logs_contradict_is_named(rig: Rig, ledger: Path, column: str) -> None:
    index, value = WRITTEN[column]
    with sqlite3.connect(ledger) as connection:
        read = f"SELECT {column} FROM tasks WHERE task_index = {index}"
        (true,) = connection.execute(read).fetchone()
        connection.execute(f"UPDATE tasks SET {column} = {value} WHERE task_index = {index}")
        (written,) = connection.execute(read).fetchone()
    connection.close()
    proof = await _proof_of(rig, ledger)
    in_ledger, on_chain = ("0x" + each.hex() if isinstance(each, bytes) else each for each in (written, true))
    if true is None:  # the ledger did not know it yet, the chain does
        on_chain = proof.differences[0].chain
    assert not proof.ok
    assert [
        (difference.task_index, difference.column, difference.ledger, difference.chain)
        for difference in proof.differences
    ] == [(index, column, in_ledger, on_chain)]


async def test_a_ledger_that_claims_to_begin_later_is_told(rig: Rig, ledger: Path) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE sources SET start_block = start_block + 5")
    connection.close()
    done = await rig.command("prove", "--json", environment={"WATCHER_LEDGER__URL": f"sqlite:///{ledger}"})
    assert (done.code, done.out) == (78, "")
    assert "this ledger was begun at block" in done.err


# An edit, and what `audit verify` names: kind and table.
EDITS: dict[str, tuple[str, list[tuple[str, str | None]]]] = {
    **{
        f"tasks.{change.partition(' ')[0]}": (
            f"UPDATE tasks SET {change} WHERE task_index = 1",
            [("row changed", "tasks")],
        )
        for change in (
            "state = 'expired'",
            "response = x'1234'",
            "response_hash = zeroblob(32)",
            "responded_block = 1",
            "responded_tx_hash = zeroblob(32)",
            "task_hash = zeroblob(32)",
            "message = x'01'",
            "created_block = 1",
            "deadline_block = 100000",
            "quorum_threshold = 1",
            "quorum_numbers = x'05'",
            "log = x''",
            "hook_version = 'another'",
            "tx_hash = zeroblob(32)",
            "sig_hash = zeroblob(32)",
            "seen_at_ms = seen_at_ms - 1",
            "updated_at_ms = 0",
            "attempts = 0",
            "error = 'nothing was wrong'",
            "canonical = 0",
            "block_hash = zeroblob(32)",
            "block_time_s = 1",
            "task_index = 7",
        )
    },
    "a task's bytes as text": (
        "UPDATE tasks SET hook_version = CAST(hook_version AS BLOB) WHERE task_index = 1",
        [("row changed", "tasks")],
    ),
    "journal.at_ms": ("UPDATE journal SET at_ms = at_ms + 1 WHERE id = 2", [("row changed", "journal")]),
    "journal.why": ("UPDATE journal SET why = 'other' WHERE id = 2", [("row changed", "journal")]),
    "journal.to_state": ("UPDATE journal SET to_state = 'failed' WHERE id = 3", [("row changed", "journal")]),
    "a deleted line": ("DELETE FROM journal WHERE id = 3", [("row missing", "journal")]),
    "an added line": (
        "INSERT INTO journal (task_id, at_ms, to_state, why) VALUES (1, 5, 'ready', 'so')",
        [("row added", "journal")],
    ),
    "lines in another order": (
        "UPDATE journal SET id = -(5 - id) WHERE id IN (2, 3); UPDATE journal SET id = -id WHERE id < 0",
        [("row changed", "journal"), ("row changed", "journal")],
    ),
    "attempts.duration_ms": ("UPDATE attempts SET duration_ms = 1 WHERE kind = 'post'", [("row changed", "attempts")]),
    "attempts.began_at_ms": ("UPDATE attempts SET began_at_ms = 1 WHERE kind = 'post'", [("row changed", "attempts")]),
    "attempts.answer": ("UPDATE attempts SET answer = x'00' WHERE kind = 'post'", [("row changed", "attempts")]),
    "attempts.request_digest": (
        "UPDATE attempts SET request_digest = zeroblob(32) WHERE kind = 'post'",
        [("row changed", "attempts")],
    ),
    "attempts.outcome": ("UPDATE attempts SET outcome = 'refused' WHERE kind = 'post'", [("row changed", "attempts")]),
    "a deleted attempt": ("DELETE FROM attempts WHERE kind = 'post'", [("row missing", "attempts")]),
    "an added attempt": (
        "INSERT INTO attempts (task_id, kind, number, fence, began_at_ms) VALUES (1, 'post', 9, 1, 5)",
        [("row added", "attempts")],
    ),
    "a deleted task": ("DELETE FROM tasks WHERE task_index = 0", [("row missing", "tasks")]),
    "responses.message": ("UPDATE responses SET message = x'00'", [("row changed", "responses")]),
    "a deleted response": ("DELETE FROM responses", [("row missing", "responses")]),
    "sources.start_block": ("UPDATE sources SET start_block = start_block + 5", [("row changed", "sources")]),
    "a changed entry": ("UPDATE audit_entries SET at_ms = at_ms + 1 WHERE seq = 3", [("entry changed", None)]),
    "a deleted entry": ("DELETE FROM audit_entries WHERE seq = 3", [("entry missing", None)]),
    "the chain's beginning": ("DELETE FROM audit_entries WHERE seq < 3", [("entry missing", None)]),
    "no chain at all": ("DELETE FROM audit_entries", [("entry missing", None)]),
    "answers of two tasks exchanged": (
        "UPDATE tasks SET response = CASE task_index WHEN 0 THEN x'01' ELSE NULL END",
        [("row changed", "tasks"), ("row changed", "tasks")],
    ),
    "an attempt moved to another task": (
        "UPDATE attempts SET task_id = 1 WHERE kind = 'post'",
        [("row changed", "attempts")],
    ),
    "an attempt without a task": (
        "UPDATE attempts SET task_id = 99 WHERE kind = 'post'",
        [("row changed", "attempts")],
    ),
    "another number of a row": (
        "UPDATE journal SET id = 900 WHERE id = 3",
        [("row missing", "journal"), ("row added", "journal")],
    ),
    "a row in place of one that was removed": (
        (
            "DELETE FROM journal WHERE id = 3; INSERT INTO journal (id, task_id, at_ms, to_state, why) "
            "VALUES (3, 1, 5, 'ready', 'so')"
        ),
        [("row changed", "journal")],
    ),
    "a task of another contract": (
        (
            "INSERT INTO sources (id, chain_id, task_manager, start_block, cursor_block, head_block, final_block, "
            "created_at_ms) VALUES (2, 1, x'00', 0, 0, 0, 0, 0); UPDATE tasks SET source_id = 2 WHERE task_index = 0"
        ),
        [("row changed", "tasks")],
    ),
    "a kept count": ("UPDATE ended_counts SET tasks = tasks + 1 WHERE state = 'final'", [("count", "ended_counts")]),
    "the indices that have no hole": (
        "INSERT OR REPLACE INTO coverage VALUES (1, 0, 9, 0)",
        [("count", "coverage")],
    ),
    "another view": (
        "DROP VIEW audit_attempt; CREATE VIEW audit_attempt AS SELECT 1 AS attempt_id",
        [("structure", None)],
    ),
    "no view": ("DROP VIEW audit_task", [("structure", None)]),
    "a trigger": (
        "CREATE TRIGGER quiet AFTER INSERT ON journal BEGIN UPDATE journal SET why = '' WHERE id = NEW.id; END",
        [("structure", None)],
    ),
    "no index": ("DROP INDEX ix_tasks_open", [("structure", None)]),
    "a column more": ("ALTER TABLE attempts ADD COLUMN secret TEXT", [("structure", "attempts")]),
    "a table under another name": (
        "ALTER TABLE journal RENAME TO true_journal; CREATE VIEW journal AS SELECT * FROM true_journal WHERE id > 2",
        [("structure", "journal")],
    ),
    "no table": ("DROP TABLE audit_entries", [("structure", "audit_entries")]),
    "the chain's end": (
        "DELETE FROM audit_entries WHERE seq = (SELECT max(seq) FROM audit_entries)",
        [("row changed", "tasks")],
    ),
}


@pytest.mark.parametrize("edit", EDITS)
async def test_audit_names_each_edit_with_its_row(rig: Rig, ledger: Path, edit: str) -> None:
    statements, expected = EDITS[edit]
    assert _check(ledger).problems == [], "the ledger is as the daemon left it"
    with sqlite3.connect(ledger) as connection:
        connection.executescript(statements)
    connection.close()
    named = [(problem.kind, problem.table) for problem in _check(ledger).problems]
    assert all(named.count(problem) >= expected.count(problem) for problem in expected), named
    if "chain" not in edit and "entry" not in edit:
        of_rows = [problem for problem in named if problem[0] not in ("count", "structure")]
        assert of_rows == [problem for problem in expected if problem[0] not in ("count", "structure")]


def _check(ledger: Path) -> Check:
    reader = Reader(URL.create("sqlite", database=str(ledger)))
    try:
        return reader.read_now(check_ledger, 1, {})
    finally:
        reader.close()


async def test_audit_commands_tell_edits_and_other_chains(rig: Rig, ledger: Path, tmp_path: Path) -> None:
    environment = {"WATCHER_LEDGER__URL": f"sqlite:///{ledger}"}
    roots = await rig.command("audit", "root", "--json", environment=environment)
    assert roots.code == 0, roots
    published = tmp_path / "roots.json"
    published.write_text(roots.out)
    done = await rig.command("audit", "verify", "--roots", str(published), "--json", environment=environment)
    assert (done.code, done.json["ok"], done.json["roots_compared"]) == (0, True, len(roots.json)), done
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE journal SET why = 'other' WHERE id = 2")
    connection.close()
    _make_anew(ledger)
    done = await rig.command("audit", "verify", "--ledger", str(ledger), "--json")
    assert (done.code, done.json["problems"]) == (0, []), "a chain that was made anew contradicts itself nowhere"
    done = await rig.command("audit", "verify", "--ledger", str(ledger), "--roots", str(published), "--json")
    assert (done.code, {problem["kind"] for problem in done.json["problems"]}) == (1, {"root"}), done


async def test_published_roots_of_the_ledger_are_checked(rig: Rig, ledger: Path) -> None:
    """A root that was taken out, and one that is of another day; and a chain that was cut off behind its last root."""
    (root,) = (await rig.command("audit", "root", "--json")).json
    half = root["last_seq"] // 2
    values = f"x'{root['root'][2:]}', x'{root['head_hash'][2:]}', 0)"
    for first, day, expected in (
        (1, "2001-01-01", "covers entries of"),
        (half, root["day"], "lacks the one of entry 1"),
    ):
        with sqlite3.connect(ledger) as connection:
            row = f"VALUES (1, {first}, {root['last_seq']}, '{day}', {values}"
            connection.execute("DELETE FROM audit_roots")
            connection.execute(f"INSERT INTO audit_roots {row}")
        connection.close()
        done = await rig.command("audit", "verify", "--ledger", str(ledger), "--json")
        assert done.code == 1 and any(expected in problem["message"] for problem in done.json["problems"]), done


async def test_deletion_of_the_newest_rows_with_their_entries_shows(rig: Rig, ledger: Path) -> None:
    """Everything of the second task is deleted, and every entry that has a row of it: the chain itself is whole."""
    with sqlite3.connect(ledger) as connection:
        of_first = "(SELECT id FROM tasks WHERE task_index = 0)"
        for table in ("journal", "attempts"):
            connection.execute(f"DELETE FROM {table} WHERE task_id NOT IN {of_first}")
        connection.execute("DELETE FROM responses")
        connection.execute("DELETE FROM tasks WHERE task_index = 1")
    connection.close()
    _make_anew(ledger)
    problems = _check(ledger).problems
    assert {(problem.kind, problem.table) for problem in problems} >= {("count", "ended_counts")}, problems
    assert not [problem for problem in problems if problem.kind.startswith(("row", "entry"))], problems


def _make_anew(ledger: Path) -> None:
    """Make leaves, entries and their hashes fit the rows as they are now, as somebody who knows the format can."""
    engine = open_engine(URL.create("sqlite", database=str(ledger)))
    with engine.begin() as conn:
        prev_hash = None
        for entry in list(walk(conn, 1)):
            leaves = list(unpack_leaves(entry.leaves))
            now = {
                bound: digests(conn, bound, [leaf.row_id for leaf in leaves if leaf.table is bound]) for bound in Bound
            }
            kept = [
                replace(leaf, digest=now[leaf.table][leaf.row_id]) for leaf in leaves if leaf.row_id in now[leaf.table]
            ]
            made = link(prev_hash or entry.prev_hash, entry.seq, entry.at_ms, entry.kind, entry.note, pack_leaves(kept))
            change = update(audit_entries).where(audit_entries.c.seq == entry.seq)
            conn.execute(change.values(leaves=made.leaves, prev_hash=made.prev_hash, hash=made.hash))
            prev_hash = made.hash
    engine.dispose()
