"""Values that no verb writes are named; a ledger that only verbs have written holds none."""

import pytest
from sqlalchemy import update

from tests.conformance.rig import LedgerRig, make_task
from watcher.errors import Edited, TryLater
from watcher.ledger.audit.changes import Bound
from watcher.ledger.audit.check import Checker
from watcher.ledger.audit.record import Leaf, pack_leaves
from watcher.ledger.audit.tables import audit_entries
from watcher.ledger.misfits import misfits, reporting_misfits
from watcher.ledger.tables import journal, tasks
from watcher.ledger.transaction import Tx
from watcher.state import State

BIG = 2**255


async def test_ledger_that_only_verbs_have_written_has_no_misfit(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(BIG), to=State.RESPONDED)
    await ledger.record(make_task(1, block=104))
    assert await ledger.read(misfits) == []
    with pytest.raises(TryLater, match="busy"), reporting_misfits(ledger.store.reader):
        raise TryLater("busy")


@pytest.mark.edits_rows
async def test_time_and_state_that_there_are_not_are_named(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)

    def edit(tx: Tx) -> None:
        tx.conn.execute(update(tasks).values(state="lost", seen_at_ms=2**62))
        tx.conn.execute(update(journal).where(journal.c.id == 1).values(to_state="\x1b[2J"))

    await ledger.write(edit)
    with pytest.raises(Edited) as edited, reporting_misfits(ledger.store.reader):
        raise ValueError("whatever reads it")
    lines = str(edited.value).splitlines()
    assert [line.partition(" holds ")[0] for line in lines[1:]] == [
        "tasks (id 1): the column state",
        "tasks (id 1): the column seen_at_ms",
        "journal (id 1): the column to_state",
    ]


@pytest.mark.edits_rows
async def test_entry_of_a_row_that_no_database_can_have_is_an_edit(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    packed = pack_leaves([Leaf(table, 2**64 - 1, bytes(32)) for table in Bound])

    def edit(tx: Tx) -> None:
        tx.conn.execute(update(audit_entries).where(audit_entries.c.seq == 2).values(leaves=packed))

    await ledger.write(edit)
    check = await ledger.read(lambda conn: Checker(conn, ledger.source).run())
    assert {"entry changed", "row missing"} <= {problem.kind for problem in check.problems}
