"""The audit chain of a ledger that is older than it, and the roots of past days."""

from pathlib import Path

import pytest
from sqlalchemy import delete

from tests.conformance.rig import CHAIN_ID, MANAGER, LedgerRig, make_task
from tests.kit.json_receiver import JsonReceiver, receiving_json
from watcher.daemon.auditing import Auditing
from watcher.daemon.publication import Publication
from watcher.daemon.receivers import RootsFile
from watcher.daemon.webhook import Webhook
from watcher.ledger.audit.check import Check, Checker
from watcher.ledger.audit.roots import compare, published, roots
from watcher.ledger.audit.tables import audit_entries
from watcher.ledger.transaction import Tx
from watcher.report.audit_roots import read_root_lines
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


async def pass_a_day(ledger: LedgerRig, index: int) -> None:
    """Give the day that ends an entry, and the one that begins."""
    await ledger.record(make_task(index), upto=111 + index)
    ledger.clock.at_ms += DAY_MS
    await ledger.record(make_task(index + 1), upto=112 + index)


def begun(ledger: LedgerRig, file: Path, webhook: JsonReceiver) -> Auditing:
    """Begin a run, as a start of the daemon does."""
    receivers = (RootsFile(file, CHAIN_ID, MANAGER), Webhook(webhook.url, CHAIN_ID, MANAGER))
    return Auditing(ledger.store, ledger.clock, Publication(receivers))


async def test_receiver_that_fails_gets_the_root_later_and_the_file_once(ledger: LedgerRig, tmp_path: Path) -> None:
    file = tmp_path / "roots.jsonl"
    await pass_a_day(ledger, 0)
    async with receiving_json() as webhook:
        webhook.status = 503
        auditing = begun(ledger, file, webhook)
        for _ in range(2):  # the second one comes before its pause is over
            await auditing.run()
        assert webhook.tries == 1
        assert await ledger.read(published, ledger.source) == []
        (root,) = read_root_lines(file, CHAIN_ID, MANAGER)
        restarted = begun(ledger, file, webhook)
        await restarted.run()
        webhook.status = 200
        ledger.clock.at_ms += 20_000
        for _ in range(2):
            await restarted.run()
        assert (webhook.tries, [line["root"] for (line,) in webhook.bodies]) == (3, ["0x" + root.root.hex()])
        (noted,) = await ledger.read(published, ledger.source)
        assert (noted.root, read_root_lines(file, CHAIN_ID, MANAGER)) == (root.root, [root])


async def test_file_that_is_set_later_gets_the_roots_before_it(ledger: LedgerRig, tmp_path: Path) -> None:
    await pass_a_day(ledger, 0)
    await Auditing(ledger.store, ledger.clock).run()
    await pass_a_day(ledger, 2)
    file = tmp_path / "roots.jsonl"
    async with receiving_json() as webhook:
        for _ in range(2):
            await begun(ledger, file, webhook).run()
    every = await ledger.read(lambda conn: list(roots(conn, ledger.source, ledger.clock.now_ms())))
    whole = [root for root in every if root.is_complete]
    assert len(whole) == 2
    assert read_root_lines(file, CHAIN_ID, MANAGER) == whole
    assert [line["day"] for (line,) in webhook.bodies] == [whole[1].day]
