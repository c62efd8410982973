"""The audit chain of a ledger that is older than it, and the roots of past days."""

import pytest
from sqlalchemy import delete

from tests.conformance.rig import LedgerRig, make_task
from watcher.daemon.auditing import Auditing
from watcher.ledger.audit.check import Check, Checker
from watcher.ledger.audit.roots import compare, published, roots
from watcher.ledger.audit.tables import audit_entries
from watcher.ledger.writer import Tx
from watcher.state import State

DAY_MS = 24 * 3600 * 1000


async def checked(ledger: LedgerRig) -> Check:
    return await ledger.read(lambda conn: Checker(conn, ledger.source).run())


def forget_chain(tx: Tx) -> None:
    tx.conn.execute(delete(audit_entries))


@pytest.mark.edits_rows
async def test_rows_older_than_the_chain_are_bound_by_the_job(ledger: LedgerRig) -> None:
    await ledger.bring(*(make_task(index) for index in range(5)), to=State.RESPONDED)
    await ledger.write(forget_chain)
    await ledger.record(make_task(9), upto=111)
    before = await checked(ledger)
    assert (before.problems, before.unbound > 20) == ([], True)
    await Auditing(ledger.store, ledger.clock).run()
    after = await checked(ledger)
    assert (after.problems, after.unbound) == ([], 0)


async def test_root_of_a_past_day_is_published_once(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    ledger.clock.at_ms += DAY_MS
    await ledger.record(make_task(1), upto=111)
    for _ in range(2):
        await Auditing(ledger.store, ledger.clock).run()
    (noted,) = await ledger.read(published, ledger.source)
    first, today = await ledger.read(lambda conn: list(roots(conn, ledger.source, ledger.clock.now_ms())))
    assert (noted.root, noted.last_seq, first.is_complete, today.is_complete) == (
        first.root,
        first.last_seq,
        True,
        False,
    )
    check = await checked(ledger)
    await ledger.read(compare, ledger.source, check, {"noted": first, "today": today})
    assert check.problems == []
