"""EMULATOR of the aggregator behind AltLayer's hosted operator.

It takes requests, lets the operators sign, and sends the response in the background: the caller gets a reply before
there is a transaction. Like the public ancestor of the real one it keeps rounds in memory by signed digest, with a task
counter of its own that is unrelated to the contract's index.
"""

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from watcher.devnet.contract import TaskStruct, response_digest
from watcher.devnet.faults import Fault, FaultKind
from watcher.devnet.journal import Journal
from watcher.devnet.operators import Operators
from watcher.devnet.tasks import TaskManager
from watcher.errors import RetryElsewhere

POLL_S = 0.05
RECEIPTS_PER_BATCH = 200
RIVAL_MESSAGE = "0x" + b"rival".hex()


class Declined(Exception):
    """An expected refusal: the JSON-RPC code and text of the real aggregator."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@dataclass(frozen=True, slots=True)
class Quorums:
    """The quorums that sign, by the stakes of a block, with a threshold in percent for each."""

    numbers: bytes
    thresholds: Sequence[int]
    reference_block: int

    @classmethod
    def of(cls, task: TaskStruct) -> Self:
        return cls(task.quorum_numbers, [task.threshold] * len(task.quorum_numbers), task.created_block)


@dataclass(slots=True)
class Round:
    """One aggregation: the state of one signed digest."""

    number: int
    digest: bytes
    task: TaskStruct
    index: int
    message: bytes
    quorums: Quorums
    fault: Fault | None = None
    due_block: int | None = None  # send at this head
    tx_hash: str | None = None
    succeeded: bool | None = None
    heads_missing: int = 0  # heads in a row without the transaction, in a block or in the pool
    working: bool = False  # a send is due or a receipt is awaited


@dataclass(slots=True)
class Memory:
    """The state that a restart of the aggregator loses."""

    by_digest: dict[bytes, Round] = field(default_factory=dict)
    next_number: int = 0


class Aggregator:
    """The aggregator of one task manager.

    Attributes:
        absent: the positions of operators that do not sign.
        strict_memory: as in the ancestor, a digest whose transaction failed or was reorganised away stays "already
            finished" until a restart.
        proxy_quorum_numbers: the quorums of the proxy's own configuration. Requests to the proxy do not name them, so
            it builds every task with these, and the contract refuses the answer to a task that was made with others.
            None: those of the chain.
        proxy_threshold: the same for the threshold, in percent.
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
        self._followed: list[Round] = []  # apart from the memory: the journal must record every transaction
        self._seen_head: str | None = None  # the hash of the head at which all transactions were looked up
        self._jobs: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._spawn(self._follow_chain())

    async def close(self) -> None:
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def forget(self) -> None:
        """Lose counter and rounds, as in a restart. Transactions that are sent stay on their way."""
        self._memory = Memory()

    async def accept_answer(
        self, index: int, created_block: int, message: bytes, resp_message: bytes, fault: Fault | None
    ) -> Round:
        """Open a round for a request to the proxy API, which must agree with the task on the chain.

        Args:
            index: the task's index.
            created_block: the block that created it.
            message: the task's message, as the caller states it.
            resp_message: the answer.
            fault: the fault of its transaction, if any.

        Raises:
            Declined: there is no such task, or its answer is already finished.
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
        self, task: TaskStruct, index: int, resp_message: bytes, digest: bytes, quorums: Quorums, fault: Fault | None
    ) -> Round:
        """Open a round for a request to the operator API, whose values are not checked; errors show on the chain.

        Args:
            task: the task, as the caller states it.
            index: its index.
            resp_message: the answer.
            digest: the 32 bytes to sign.
            quorums: the quorums that sign.
            fault: the fault of its transaction, if any.

        Raises:
            Declined: no operator is in any of the quorums, or the digest is already finished.
        """
        if not self.operators.any_in(quorums.numbers, quorums.reference_block):
            operator_id = self.operators.members[0].id.hex() if self.operators.members else "00"
            text = f"operator {operator_id} not part of task {self._memory.next_number}'s quorum"
            raise Declined(0, f"failed to call alert: {text}")
        return await self._open(digest, task, index, resp_message, quorums, fault)

    async def _task(self, index: int, created_block: int) -> TaskStruct:
        try:
            task, task_hash = await self.manager.task_at(index, created_block)
        except RetryElsewhere as error:
            raise Declined(0, f"failed to call alert: create sig task failed: {error}") from error
        if task is None or task.hash() != task_hash:
            text = f"no task {index} created in block {created_block} on the chain"
            raise Declined(0, f"failed to call alert: create sig task failed: {text}")
        return task

    async def _open(
        self, digest: bytes, task: TaskStruct, index: int, message: bytes, quorums: Quorums, fault: Fault | None
    ) -> Round:
        previous = self._memory.by_digest.get(digest)
        if previous is not None and previous.working:
            return previous
        if previous is not None:
            await self._check_finished(previous)
        if (newer := self._memory.by_digest.get(digest)) is not previous and newer is not None:
            return newer  # Another request for the same digest was faster.
        number = self._memory.next_number if previous is None else previous.number
        if previous is None:
            self._memory.next_number += 1
        round_ = Round(number, digest, task, index, message, quorums, fault, working=True)
        self._memory.by_digest[digest] = round_
        self._followed.append(round_)
        self._spawn(self._guarded(round_, self._begin(round_)))
        return round_

    async def _check_finished(self, previous: Round) -> None:
        """Return if a round that ended may start over.

        Raises:
            Declined: it is finished for good.
        """
        if previous.tx_hash is None:
            if self.strict_memory:
                raise Declined(0, f"failed to call alert: task {previous.number} not initialized or already completed")
            return
        if not self.strict_memory:
            try:
                receipt = await self.manager.chain.rpc.call("eth_getTransactionReceipt", previous.tx_hash)
            except RetryElsewhere as error:
                raise Declined(0, f"failed to call alert: create sig task failed: {error}") from error
            if receipt is None or int(receipt["status"], 16) != 1:
                return
        raise Declined(2, f"the task 0x{previous.digest.hex()} already finished: {previous.tx_hash}")

    async def _guarded(self, round_: Round, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`; if the chain is unreachable, or a rival's answer does not fit the contract, end the round.

        The next request for the same answer then opens another.
        """
        try:
            await work
        except (RetryElsewhere, ValueError) as error:
            round_.working = False
            await self._note(round_, f"not sent: {error}")

    async def _begin(self, round_: Round) -> None:
        kind = round_.fault.kind if round_.fault else None
        if kind is FaultKind.NEVER_LANDS:
            round_.working = False
            await self._note(round_, "dropped on purpose")
        elif kind is FaultKind.LANDS_LATE and round_.fault:
            round_.due_block = await self.manager.chain.head() + round_.fault.blocks
        else:
            await self._send(round_)

    async def _send(self, round_: Round) -> None:
        digest, message = round_.digest, round_.message
        if round_.fault and round_.fault.kind is FaultKind.REVERTS:
            digest = hashlib.sha256(digest).digest()  # A valid signature of another digest fails on the chain.
        if round_.fault and round_.fault.kind is FaultKind.RIVAL:
            rival = bytes.fromhex((round_.fault.text or RIVAL_MESSAGE).removeprefix("0x"))
            message = round_.task.convention.word(rival)
            digest = response_digest(round_.index, message, round_.task.convention)
        quorums = round_.quorums
        aggregate = self.operators.aggregate(digest, quorums.numbers, quorums.reference_block, self.absent)
        percents = zip(aggregate.percents, quorums.thresholds, strict=True)
        weak = [f"{signed:.1f} < {least} percent" for signed, least in percents if signed < least or signed == 0]
        if weak or not aggregate.percents:
            round_.working = False
            await self._note(round_, f"quorum not reached: {', '.join(weak) or 'the task names none'}")
            return
        round_.tx_hash = await self.manager.respond(round_.task, round_.index, message, aggregate)
        self._seen_head = None  # The transaction may be in that block already, and no other block may come.
        sent = {"tx_hash": round_.tx_hash, "digest": "0x" + digest.hex(), "resp_message": "0x" + message.hex()}
        await self.journal.write("sent", task_index=round_.index, number=round_.number, **sent)

    async def _follow_chain(self) -> None:
        """Look up the transactions of all rounds at each new head, in batches: thousands may be open."""
        while True:
            await asyncio.sleep(POLL_S)
            self._followed = [round_ for round_ in self._followed if round_.working]
            if not self._followed:
                continue
            try:
                head = await self.manager.chain.block("latest")
                if head is None or head["hash"] == self._seen_head:
                    continue
                self._seen_head = head["hash"]
                await self._on_head(int(head["number"], 16), list(self._followed))
            except RetryElsewhere:
                self._seen_head = None  # The chain is unreachable; ask again.

    async def _on_head(self, number: int, open_rounds: Sequence[Round]) -> None:
        for round_ in [r for r in open_rounds if r.due_block is not None and r.due_block <= number]:
            round_.due_block = None
            self._spawn(self._guarded(round_, self._send(round_)))
        waiting = [r for r in open_rounds if r.tx_hash is not None]
        for start in range(0, len(waiting), RECEIPTS_PER_BATCH):
            part = waiting[start : start + RECEIPTS_PER_BATCH]
            methods = ("eth_getTransactionReceipt", "eth_getTransactionByHash")
            results = await self.manager.chain.rpc.batch([(method, [r.tx_hash]) for method in methods for r in part])
            for round_, receipt, transaction in zip(part, results, results[len(part) :], strict=False):
                if receipt is not None:
                    await self._mined(round_, receipt)
                else:
                    await self._missing(round_, known=transaction is not None)

    async def _missing(self, round_: Round, *, known: bool) -> None:
        """End a round whose transaction a reorg or a restart of the node has dropped: missing at two heads in a row."""
        round_.heads_missing = 0 if known else round_.heads_missing + 1
        if round_.heads_missing >= 2:
            round_.working = False
            await self._note(round_, f"transaction {round_.tx_hash} is gone")

    async def _mined(self, round_: Round, receipt: dict[str, Any]) -> None:
        succeeded = int(receipt["status"], 16) == 1
        why = None if succeeded else await self.manager.chain.failure(receipt["transactionHash"])
        round_.succeeded, round_.working = succeeded, False
        fields = {"tx_hash": round_.tx_hash, "succeeded": round_.succeeded, "why": why}
        block = int(receipt["blockNumber"], 16)
        await self.journal.write("mined", task_index=round_.index, number=round_.number, block_number=block, **fields)

    async def _note(self, round_: Round, message: str) -> None:
        await self.journal.write("note", task_index=round_.index, number=round_.number, words=message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        job: asyncio.Task[None] = asyncio.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
