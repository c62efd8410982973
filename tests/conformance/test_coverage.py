"""The indices without a hole: a task that is lost opens one again."""

from tests.conformance.rig import LedgerRig, header, make_task
from watcher.ledger import coverage, reorg


async def cover(ledger: LedgerRig, next_index: int) -> int:
    """Record that the indices from 0 to below `next_index` have no hole. Return `Covered.losses`."""
    losses = (await ledger.read(coverage.covered, ledger.source, 0)).losses
    await ledger.write(coverage.extend, ledger.source, 0, next_index, losses)
    return losses


async def covered_to(ledger: LedgerRig) -> int:
    return (await ledger.read(coverage.covered, ledger.source, 0)).next_index


async def test_a_task_that_a_reorg_took_is_not_covered(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0, block=101), make_task(1, block=104), make_task(2, block=105), upto=106)
    await cover(ledger, 3)
    assert await covered_to(ledger) == 3
    await ledger.write(reorg.rewind, ledger.source, header(103))
    assert await covered_to(ledger) == 1, "the lowest index that the reorg took"


async def test_indices_read_before_a_reorg_are_not_covered(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0, block=101), make_task(1, block=104), upto=106)
    losses = await cover(ledger, 2)
    await ledger.write(reorg.rewind, ledger.source, header(103))
    await ledger.write(coverage.extend, ledger.source, 0, 2, losses)
    assert await covered_to(ledger) == 1
