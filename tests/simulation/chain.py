"""A chain in memory: blocks with hashes, one task manager, a pool of transactions, forks.

Logs are encoded as the contract encodes them, and each block keeps the contract's state, so that any block can be asked
about. Invariant: what was final once stays; the oracle may rely on it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

from eth_utils.crypto import keccak

from tests.wizard import CREATED_TOPIC, RESPONDED_TOPIC, index_topic
from watcher.chain.convention.abi import Codec
from watcher.chain.convention.convention import convention
from watcher.chain.rpc.replies import Log
from watcher.task import Header

CHAIN_ID = 31337
MANAGER = b"\x5a" * 20
CONVENTION = convention("wizard")
THRESHOLD = 66
QUORUMS = b"\x00"
FATES = ("dropped", "kept", "moved", "changed", "unanswered")

_TASK = Codec("(uint32,uint32,bytes,bytes)")
_RESPONDED = Codec("(uint32,bytes)", "(uint32,bytes32)")


def digest(*parts: object) -> bytes:
    """32 bytes that depend on all parts."""
    return hashlib.sha256(repr(parts).encode()).digest()


@lru_cache(4096)
def task_words(created_block: int, message: bytes) -> tuple[bytes, bytes]:
    """The data of a NewTaskCreated log, and what allTaskHashes holds for it."""
    data = _TASK.encode([(created_block, THRESHOLD, message, QUORUMS)])
    return data, keccak(data)


@lru_cache(4096)
def response_words(index: int, answer: bytes, block: int) -> tuple[bytes, bytes]:
    """The data of a TaskResponded log, and what allTaskResponses holds for it."""
    data = _RESPONDED.encode([(index, answer), (block, digest("non signers", index))])
    return data, keccak(data)


@dataclass(frozen=True, slots=True)
class Create:
    """Somebody asks a question."""

    hash: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class Respond:
    """The aggregator brings an answer; the contract compares the task it names. `doomed`: it reverts whatever."""

    hash: bytes
    index: int
    created_block: int
    message: bytes
    answer: bytes
    doomed: bool = False


Transaction = Create | Respond


@dataclass(frozen=True, slots=True)
class Block:
    """A block and the contract's state behind it."""

    number: int
    hash: bytes
    parent: bytes
    transactions: tuple[Transaction, ...]
    logs: tuple[Log, ...]
    task_hashes: tuple[bytes, ...]
    responses: Mapping[int, bytes]
    succeeded: Mapping[bytes, bool]

    @property
    def header(self) -> Header:
        return Header(self.number, self.hash, self.parent)


class Chain:
    """`drift`: how far the contract's block.number is behind the number of the block, as on some second layers."""

    def __init__(self, chance: Random, window_blocks: int, finality_blocks: int, drift: int) -> None:
        self.chance = chance
        self.window_blocks = window_blocks
        self.finality_blocks = finality_blocks
        self.drift = drift
        self.blocks: list[Block] = [Block(0, digest("genesis"), bytes(32), (), (), (), {}, {})]
        self.pool: list[tuple[int, Transaction]] = []
        self.final_number = 0
        self.asked: dict[tuple[int, int, bytes], bytes] = {}  # (index, created block, message) -> task hash, ever
        self.answered: set[tuple[int, bytes, bytes]] = set()  # (index, answer, response hash), ever
        self._made = 0

    @property
    def head(self) -> Block:
        return self.blocks[-1]

    @property
    def final(self) -> Block:
        return self.blocks[self.final_number]

    def name(self, *parts: object) -> bytes:
        """A hash nobody else has."""
        self._made += 1
        return digest(self._made, *parts)

    def create(self, count: int) -> None:
        """Questions for the next block."""
        for _ in range(count):
            message = self.chance.randbytes(self.chance.choice((0, 1, 4, 33)))
            self.pool.append((0, Create(self.name("create"), message)))

    def respond(self, index: int, created_block: int, message: bytes, answer: bytes, delay: int, doomed: bool) -> bytes:
        """Put an answer into the pool, to be mined `delay` blocks after the next one. Returns its hash."""
        transaction = Respond(self.name("respond"), index, created_block, message, answer, doomed)
        self.pool.append((self.head.number + 1 + delay, transaction))
        return transaction.hash

    def mine(self, count: int = 1) -> None:
        for _ in range(count):
            number = self.head.number + 1
            due = [transaction for at, transaction in self.pool if at <= number]
            self.pool = [(at, transaction) for at, transaction in self.pool if at > number]
            self._append(due)

    @property
    def reorg_depth_max(self) -> int:
        return self.head.number - self.final_number

    def reorg(self, depth: int, fate: str) -> None:
        """Replace the newest `depth` blocks by others, a few more or one fewer, which treat the old content by fate."""
        old = self.blocks[-depth:]
        # A list of its own: a replica that lags goes on looking at the old one.
        self.blocks = self.blocks[:-depth]
        length = max(0 if fate == "dropped" else 1, depth + self.chance.choice((-1, 0, 1, 1, 2)))
        contents: list[list[Transaction]] = [[] for _ in range(length)]
        for offset, block in enumerate(old):
            for transaction in block.transactions:
                kept = self._kept(transaction, fate)
                if kept is None:
                    continue
                place = offset + (fate == "moved")
                if place < length:
                    contents[place].append(kept)
                elif self.chance.random() < 0.7:
                    self.pool.append((0, kept))
        for content in contents:
            self._append(content)

    def _kept(self, transaction: Transaction, fate: str) -> Transaction | None:
        if fate == "dropped":
            return None
        if fate == "kept" or (fate == "moved" and isinstance(transaction, Create)):
            return transaction
        if isinstance(transaction, Create):
            return replace(transaction, message=transaction.message + b"!") if fate == "changed" else transaction
        if self.chance.random() < 0.5:
            return None
        self.pool.append((self.head.number + self.chance.randint(1, 4), transaction))
        return None

    def _append(self, transactions: Sequence[Transaction]) -> None:
        parent = self.head
        number = parent.number + 1
        hash_ = self.name("block", number)
        logs: list[Log] = []
        task_hashes, responses, succeeded = list(parent.task_hashes), dict(parent.responses), dict(parent.succeeded)
        for transaction in transactions:
            if isinstance(transaction, Create):
                topics, data = self._created(transaction, number - self.drift, task_hashes)
            else:
                done = self._responded(transaction, number - self.drift, task_hashes, responses)
                succeeded[transaction.hash] = done is not None
                if done is None:
                    continue
                topics, data = done
            logs.append(Log(MANAGER, topics, data, number, hash_, transaction.hash, len(logs)))
        made = (tuple(transactions), tuple(logs), tuple(task_hashes), responses, succeeded)
        self.blocks.append(Block(number, hash_, parent.hash, *made))
        self.final_number = max(self.final_number, number - self.finality_blocks)

    def _created(self, create: Create, evm_number: int, task_hashes: list[bytes]) -> tuple[tuple[bytes, ...], bytes]:
        index = len(task_hashes)
        data, task_hash = task_words(evm_number, create.message)
        task_hashes.append(task_hash)
        self.asked[index, evm_number, create.message] = task_hash
        return (CREATED_TOPIC, index_topic(index)), data

    def _responded(
        self, respond: Respond, evm_number: int, task_hashes: Sequence[bytes], responses: dict[int, bytes]
    ) -> tuple[tuple[bytes, ...], bytes] | None:
        """The template's checks, in its order; None for a revert."""
        refused = (
            respond.doomed
            or respond.index >= len(task_hashes)
            or task_words(respond.created_block, respond.message)[1] != task_hashes[respond.index]
            or respond.index in responses
            or evm_number > respond.created_block + self.window_blocks
        )
        if refused:
            return None
        data, responses[respond.index] = response_words(respond.index, respond.answer, evm_number)
        self.answered.add((respond.index, respond.answer, responses[respond.index]))
        return (RESPONDED_TOPIC,), data

    def answer_of(self, index: int) -> bytes | None:
        """The bytes the canonical chain holds for a task."""
        stored = self.head.responses.get(index)
        return next((answer for at, answer, hash_ in self.answered if at == index and hash_ == stored), None)
