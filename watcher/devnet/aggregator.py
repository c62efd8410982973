"""EMULATOR of the aggregator behind AltLayer's hosted operator.

Takes verified requests, has the operators sign, and sends the response in the background: a caller gets its answer
before there is a transaction. Like the public ancestor of the real one it keeps everything in memory, keyed by
the signed digest, with a task counter of its own that has nothing to do with the contract's index.
"""

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from watcher.devnet.contract import TaskWords, response_digest
from watcher.devnet.faults import Fault, FaultKind
from watcher.devnet.journal import Journal
from watcher.devnet.operators import Operators
from watcher.devnet.tasks import TaskManager
from watcher.errors import RetryElsewhere

POLL_S = 0.05
RECEIPTS_PER_BATCH = 200
RIVAL_MESSAGE = "0x" + b"rival".hex()


class Declined(Exception):
    """The aggregator's refusal, an expected answer: a JSON-RPC code and text, as the real one words them."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@dataclass(frozen=True, slots=True)
class Quorums:
    """Whose signatures are gathered, and how many: the stakes of a block, with a threshold in percent for each."""

    numbers: bytes
    thresholds: Sequence[int]
    reference_block: int

    @classmethod
    def of(cls, task: TaskWords) -> Self:
        return cls(task.quorum_numbers, [task.threshold] * len(task.quorum_numbers), task.created_block)


@dataclass(slots=True)
class Round:
    """One aggregation: everything known about one signed digest."""

    number: int
    digest: bytes
    task: TaskWords
    index: int
    message: bytes
    quorums: Quorums
    fault: Fault | None = None
    due_block: int | None = None  # send when the head has reached it
    tx_hash: str | None = None
    succeeded: bool | None = None
    heads_missing: int = 0  # heads in a row at which the node did not know the transaction
    working: bool = False  # a send is due or a receipt is awaited


@dataclass(slots=True)
class Memory:
    """What a restart of the aggregator forgets."""

    rounds: dict[bytes, Round] = field(default_factory=dict)
    next_number: int = 0


class Aggregator:
    """`absent` holds the positions of operators that do not sign. `strict_memory` copies a trait of the ancestor: a
    digest whose transaction failed or was reorganised away stays "already finished" until the aggregator restarts.

    `proxy_quorum_numbers` and `proxy_threshold` are what the proxy's own configuration says. Its requests do not name
    them, so it builds every task with these; the contract then refuses the answer to a task that was made with others.
    None takes them from the chain.
    """

    def __init__(
        self, manager: TaskManager, operators: Operators, journal: Journal, *, strict_memory: bool = False
    ) -> None:
        self.manager, self.operators, self.journal = manager, operators, journal
        self.strict_memory = strict_memory
        self.absent: set[int] = set()
        self.proxy_quorum_numbers: bytes | None = None
        self.proxy_threshold: int | None = None
        self._memory = Memory()
        self._followed: list[Round] = []  # apart from the memory: the journal tells of every transaction
        self._looked_at: str | None = None  # the hash of the head at which every transaction sent has been looked up
        self._jobs: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._spawn(self._follow_chain())

    async def close(self) -> None:
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def forget(self) -> None:
        """What a restart of the real one does: counter and rounds are gone, transactions already sent are not."""
        self._memory = Memory()

    async def accept_answer(
        self, index: int, created_block: int, message: bytes, resp_message: bytes, fault: Fault | None
    ) -> Round:
        """The proxy's way: the task is read back from the chain, and every word of the request must agree with it.

        What the request does not say, the quorums, comes from the proxy's configuration. Raises Declined.
        """
        task = await self._task(index, created_block)
        if task.message != message:
            raise Declined(0, "failed to call alert: create sig task failed: message does not match the task's")
        if self.proxy_quorum_numbers is not None:
            task = replace(task, quorum_numbers=self.proxy_quorum_numbers)
        if self.proxy_threshold is not None:
            task = replace(task, threshold=self.proxy_threshold)
        digest = response_digest(index, resp_message, task.convention)
        return await self._open(digest, task, index, resp_message, Quorums.of(task), fault)

    async def accept_call(
        self, task: TaskWords, index: int, resp_message: bytes, digest: bytes, quorums: Quorums, fault: Fault | None
    ) -> Round:
        """The operator API's way: everything is the caller's word, and a wrong one shows only on the chain.

        Raises Declined when no operator is in any of the quorums.
        """
        if not self.operators.any_in(quorums.numbers, quorums.reference_block):
            operator_id = self.operators.members[0].id.hex() if self.operators.members else "00"
            text = f"operator {operator_id} not part of task {self._memory.next_number}'s quorum"
            raise Declined(0, f"failed to call alert: {text}")
        return await self._open(digest, task, index, resp_message, quorums, fault)

    async def _task(self, index: int, created_block: int) -> TaskWords:
        try:
            task, held = await self.manager.task_at(index, created_block)
        except RetryElsewhere as error:
            raise Declined(0, f"failed to call alert: create sig task failed: {error}") from error
        if task is None or task.hash() != held:
            text = f"no task {index} created in block {created_block} on the chain"
            raise Declined(0, f"failed to call alert: create sig task failed: {text}")
        return task

    async def _open(
        self, digest: bytes, task: TaskWords, index: int, message: bytes, quorums: Quorums, fault: Fault | None
    ) -> Round:
        known = self._memory.rounds.get(digest)
        if known is not None and (known.working or await self._stands(known)):
            return known
        if (meanwhile := self._memory.rounds.get(digest)) is not known and meanwhile is not None:
            return meanwhile  # another request for the same digest was faster
        number = self._memory.next_number if known is None else known.number
        if known is None:
            self._memory.next_number += 1
        opened = Round(number, digest, task, index, message, quorums, fault, working=True)
        self._memory.rounds[digest] = opened
        self._followed.append(opened)
        self._spawn(self._guarded(opened, self._begin(opened)))
        return opened

    async def _stands(self, known: Round) -> bool:
        """Is this finished round still finished? Raises Declined if so; False means it may start over."""
        if known.tx_hash is None:
            if self.strict_memory:
                raise Declined(0, f"failed to call alert: task {known.number} not initialized or already completed")
            return False
        if not self.strict_memory:
            try:
                receipt = await self.manager.chain.rpc.call("eth_getTransactionReceipt", known.tx_hash)
            except RetryElsewhere as error:
                raise Declined(0, f"failed to call alert: create sig task failed: {error}") from error
            if receipt is None or int(receipt["status"], 16) != 1:
                return False
        raise Declined(2, f"the task 0x{known.digest.hex()} already finished: {known.tx_hash}")

    async def _guarded(self, opened: Round, work: Coroutine[Any, Any, None]) -> None:
        """A chain that is away ends the attempt; the next request for the same answer begins another.

        So does a rival's answer that the contract has no room for.
        """
        try:
            await work
        except (RetryElsewhere, ValueError) as error:
            opened.working = False
            await self._note(opened, f"not sent: {error}")

    async def _begin(self, opened: Round) -> None:
        kind = opened.fault.kind if opened.fault else None
        if kind is FaultKind.NEVER_LANDS:
            opened.working = False
            await self._note(opened, "dropped on purpose")
        elif kind is FaultKind.LANDS_LATE and opened.fault:
            opened.due_block = await self.manager.chain.head() + opened.fault.blocks
        else:
            await self._send(opened)

    async def _send(self, opened: Round) -> None:
        digest, message = opened.digest, opened.message
        if opened.fault and opened.fault.kind is FaultKind.REVERTS:
            digest = hashlib.sha256(digest).digest()  # a good signature of something else fails on the chain
        if opened.fault and opened.fault.kind is FaultKind.RIVAL:
            given = bytes.fromhex((opened.fault.text or RIVAL_MESSAGE).removeprefix("0x"))
            message = opened.task.convention.word(given)
            digest = response_digest(opened.index, message, opened.task.convention)
        asked = opened.quorums
        aggregate = self.operators.aggregate(digest, asked.numbers, asked.reference_block, self.absent)
        reached = zip(aggregate.percents, asked.thresholds, strict=True)
        weak = [f"{signed:.1f} < {wanted} percent" for signed, wanted in reached if signed < wanted or signed == 0]
        if weak or not aggregate.percents:
            opened.working = False
            await self._note(opened, f"quorum not reached: {', '.join(weak) or 'the task names none'}")
            return
        opened.tx_hash = await self.manager.respond(opened.task, opened.index, message, aggregate)
        self._looked_at = None  # it may be in that block already, and another may not come
        sent = {"tx_hash": opened.tx_hash, "digest": "0x" + digest.hex(), "resp_message": "0x" + message.hex()}
        await self.journal.write("sent", task_index=opened.index, number=opened.number, **sent)

    async def _follow_chain(self) -> None:
        """One loop for all rounds: with thousands open, each asking for itself would drown the node."""
        while True:
            await asyncio.sleep(POLL_S)
            self._followed = [one for one in self._followed if one.working]
            if not self._followed:
                continue
            try:
                head = await self.manager.chain.block("latest")
                if head is None or head["hash"] == self._looked_at:
                    continue
                self._looked_at = head["hash"]
                await self._on_head(int(head["number"], 16), list(self._followed))
            except RetryElsewhere:
                self._looked_at = None  # the chain is away; ask again

    async def _on_head(self, number: int, open_rounds: Sequence[Round]) -> None:
        for late in [r for r in open_rounds if r.due_block is not None and r.due_block <= number]:
            late.due_block = None
            self._spawn(self._guarded(late, self._send(late)))
        waiting = [r for r in open_rounds if r.tx_hash is not None]
        for start in range(0, len(waiting), RECEIPTS_PER_BATCH):
            part = waiting[start : start + RECEIPTS_PER_BATCH]
            asked = ("eth_getTransactionReceipt", "eth_getTransactionByHash")
            found = await self.manager.chain.rpc.batch([(method, [r.tx_hash]) for method in asked for r in part])
            for one, receipt, transaction in zip(part, found, found[len(part) :], strict=False):
                if receipt is not None:
                    await self._mined(one, receipt)
                else:
                    await self._missing(one, known=transaction is not None)

    async def _missing(self, one: Round, *, known: bool) -> None:
        """A reorg, or a restart of the node, drops transactions without a word. Seen twice, it is not a race."""
        one.heads_missing = 0 if known else one.heads_missing + 1
        if one.heads_missing >= 2:
            one.working = False
            await self._note(one, f"transaction {one.tx_hash} is gone")

    async def _mined(self, one: Round, receipt: dict[str, Any]) -> None:
        succeeded = int(receipt["status"], 16) == 1
        why = None if succeeded else await self.manager.chain.failure(receipt["transactionHash"])
        one.succeeded, one.working = succeeded, False
        fields = {"tx_hash": one.tx_hash, "succeeded": one.succeeded, "why": why}
        block = int(receipt["blockNumber"], 16)
        await self.journal.write("mined", task_index=one.index, number=one.number, block_number=block, **fields)

    async def _note(self, one: Round, words: str) -> None:
        await self.journal.write("note", task_index=one.index, number=one.number, words=words)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        job: asyncio.Task[None] = asyncio.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
