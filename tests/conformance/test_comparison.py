"""The comparison of rows with logs over a real ledger: what differs, what no node shows, and who sent the answers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.conformance.rig import CHAIN_ID, START_BLOCK, LedgerRig, digest, header, make_response, make_task
from watcher.ledger import ingest
from watcher.report import chain_logs
from watcher.report.comparison import Comparison
from watcher.report.proof import Difference, Proof, Sender, Unchecked
from watcher.state import State
from watcher.task import Responded, Task

HEAD = 110
OURS, OTHER = b"\xaa" * 20, b"\xbb" * 20


@dataclass
class Chain:
    """What the nodes show. `windows` are the response windows by height; None: there is no window."""

    tasks: Sequence[Task] = ()
    responses: Sequence[Responded] = ()
    windows: dict[int, int] | None = None
    shows_window: bool = True
    block_times: dict[int, int] = field(default_factory=dict)
    transactions: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    is_silent: bool = False
    span_blocks: int = 5
    requests: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)

    @property
    def has_window(self) -> bool:
        return self.windows is not None

    async def read(self, first: int, last: int) -> tuple[list[Task], list[Responded]] | None:
        self.requests += 1
        self.ranges.append((first, last))
        if self.is_silent:
            return None
        inside = range(first, last + 1)
        return (
            [task for task in self.tasks if task.seen_at.block_number in inside],
            [response for response in self.responses if response.seen_at.block_number in inside],
        )

    async def find(self, index: int, first: int, last: int) -> list[Task]:
        return [task for task in self.tasks if task.task_index == index]

    async def window(self, block: int) -> int | None:
        return (self.windows or {}).get(block)

    async def times(self, heights: Collection[int]) -> dict[tuple[int, bytes], int]:
        return {(height, header(height).hash): self.block_times[height] for height in heights}

    async def senders(self, tx_hashes: Collection[bytes]) -> dict[bytes, tuple[bytes, int]]:
        return {tx_hash: sender for tx_hash, sender in self.transactions.items() if tx_hash in tx_hashes}


async def compared(ledger: LedgerRig, chain: Chain, **known: Any) -> Proof:
    proof = Proof(CHAIN_ID, "0x11", HEAD, "0x22", None, 0, **known)
    await Comparison(proof, ledger.read, ledger.source, chain, START_BLOCK).run()
    return proof


def moved(task: Task, **place: Any) -> Task:
    """The same task with its log at another place."""
    return replace(task, seen_at=replace(task.seen_at, **place))


async def test_rows_that_are_as_the_chain_shows_them_differ_in_nothing(ledger: LedgerRig) -> None:
    task = make_task(0)
    await ledger.bring(task, to=State.RESPONDED)
    response = make_response(0, 110)
    chain = Chain([task], [response], transactions={response.seen_at.tx_hash: (OURS, 110)})
    proof = await compared(ledger, chain, answered_by_us=1)
    assert (proof.ok, proof.compared, proof.differences, proof.unchecked) == (True, 1, [], [])
    assert proof.senders == [Sender("0x" + OURS.hex(), 1, 0, 1)]


@pytest.mark.parametrize("block", [101, 104, 109])
async def test_each_place_of_a_log_is_compared(ledger: LedgerRig, block: int) -> None:
    """Also where the log is in a block that the row does not name, and in another range."""
    task = make_task(0)
    await ledger.record(task)
    other = moved(task, block_number=block, block_hash=header(block, fork=1).hash, tx_hash=digest("other"))
    proof = await compared(ledger, Chain([other]))
    expected = {"block_hash", "created_tx_hash"} | ({"block_number"} if block != 101 else set())
    assert not proof.ok
    assert {difference.column for difference in proof.differences} == expected
    named = {difference.column: (difference.ledger, difference.chain) for difference in proof.differences}
    assert named["created_tx_hash"] == ("0x" + task.seen_at.tx_hash.hex(), "0x" + digest("other").hex())


async def test_another_response_on_the_chain_is_a_difference(ledger: LedgerRig) -> None:
    task = make_task(0)
    await ledger.bring(task, to=State.RESPONDED)
    proof = await compared(ledger, Chain([task], [make_response(0, 107)]))
    columns = [difference.column for difference in proof.differences]
    assert columns == ["responded_block", "responded_tx_hash", "response_hash"]
    assert Difference(0, "responded_block", 110, 107) in proof.differences


async def test_a_deadline_of_no_window_is_a_difference(ledger: LedgerRig) -> None:
    task = make_task(0, deadline=200)
    await ledger.record(task)
    log = replace(task, deadline_block=None)
    assert (await compared(ledger, Chain([log], windows={101: 99, 110: 99}))).ok
    proof = await compared(ledger, Chain([log], windows={101: 50, 110: 50}))
    assert [(other.column, other.ledger, other.chain) for other in proof.differences] == [("deadline_block", 200, 151)]


@pytest.mark.parametrize(
    ("windows", "shows_window"), [({101: 50, 110: 60}, True), ({110: 60}, True), ({101: 50, 110: 50}, False)]
)
async def test_a_deadline_that_no_node_can_explain_is_not_checked(
    ledger: LedgerRig, windows: dict[int, int], shows_window: bool
) -> None:
    """The window has changed, the state of the task's block is gone, or the window is in the settings alone."""
    task = make_task(0, deadline=200)
    await ledger.record(task)
    chain = Chain([replace(task, deadline_block=None)], windows=windows, shows_window=shows_window)
    proof = await compared(ledger, chain)
    assert proof.ok
    assert [(unchecked.what, unchecked.tasks) for unchecked in proof.unchecked] == [("deadlines", 1)]


async def test_times_of_logs_without_one_come_from_their_blocks(ledger: LedgerRig) -> None:
    task = moved(make_task(0), block_time_s=1_700_000_000)
    await ledger.record(task)
    log = moved(task, block_time_s=0)
    assert (await compared(ledger, Chain([log], block_times={101: 1_700_000_000}))).ok
    proof = await compared(ledger, Chain([log], block_times={101: 1_700_000_001}))
    assert proof.differences == [Difference(0, "block_time_s", 1_700_000_000, 1_700_000_001)]
    assert (proof.differences[0].ledger, proof.differences[0].chain) == (1_700_000_000, 1_700_000_001)


async def test_logs_that_no_node_shows_fail_no_proof(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    proof = await compared(ledger, Chain(is_silent=True), answered_by_us=1)
    assert (proof.ok, proof.compared) == (True, 0)
    assert [(unchecked.what, unchecked.tasks) for unchecked in proof.unchecked] == [("logs", 1), ("senders", 1)]
    assert proof.senders == [Sender(None, 1, 0, 0)]


async def test_a_log_that_is_nowhere_is_not_checked(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0))
    proof = await compared(ledger, Chain())
    assert (proof.ok, proof.unchecked) == (True, [Unchecked("logs", 1, "the nodes show no such log")])


async def test_senders_tell_our_answers_from_others(ledger: LedgerRig) -> None:
    made = [make_task(index) for index in range(3)]
    await ledger.bring(*made, to=State.RESPONDED)
    responses = [make_response(index, 110) for index in range(3)]
    by = dict(zip((response.seen_at.tx_hash for response in responses), [OURS, OTHER, OURS], strict=True))
    chain = Chain(made, responses, transactions={tx_hash: (address, 110) for tx_hash, address in by.items()})
    proof = await compared(ledger, chain, answered_by_us=2, answered_otherwise=[1])
    assert proof.senders == [Sender("0x" + OURS.hex(), 2, 0, 2), Sender("0x" + OTHER.hex(), 0, 1, 1)]


async def test_a_transaction_of_another_block_names_no_sender(ledger: LedgerRig) -> None:
    task, response = make_task(0), make_response(0, 110)
    await ledger.bring(task, to=State.RESPONDED)
    chain = Chain([task], [response], transactions={response.seen_at.tx_hash: (OURS, 109)})
    proof = await compared(ledger, chain, answered_by_us=1)
    assert (proof.ok, proof.senders) == (True, [Sender(None, 1, 0, 0)])


async def test_differences_are_counted_beyond_those_that_are_listed(ledger: LedgerRig) -> None:
    made = [make_task(index) for index in range(150)]
    await ledger.write(ingest.record, ledger.source, made, [], header(110), 110)
    proof = await compared(ledger, Chain([moved(task, tx_hash=digest("other")) for task in made]))
    assert (proof.differences_found, len(proof.differences), proof.compared) == (150, 100, 150)
    assert proof.differences == sorted(proof.differences)


async def test_blocks_that_lie_together_are_read_in_one_request(ledger: LedgerRig) -> None:
    made = [make_task(index, block=block) for index, block in enumerate((101, 102, 105, 106, 110))]
    await ledger.record(*made)
    chain = Chain(made)
    assert (await compared(ledger, chain)).compared == 5
    assert chain.ranges == [(101, 105), (106, 110)]


async def test_requests_for_logs_are_bounded(ledger: LedgerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_logs, "_REQUESTS_LIMIT", 1)
    made = [make_task(index, block=block) for index, block in enumerate((101, 110))]
    await ledger.record(*made)
    proof = await compared(ledger, Chain(made))
    assert (proof.ok, proof.compared) == (True, 1)
    assert [(unchecked.what, unchecked.tasks) for unchecked in proof.unchecked] == [("logs", 1)]


async def test_a_forged_log_at_the_index_of_a_task_is_no_difference(ledger: LedgerRig) -> None:
    true, forged = make_task(0), make_task(0, content="forged")
    await ledger.record(true, forged)
    proof = await compared(ledger, Chain([true]))
    assert (proof.ok, proof.compared) == (True, 1)
