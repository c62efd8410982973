"""The values that flow through the program.

Standard library only. Invariant: a task is identified by (chain_id, task_manager, task_index, task_hash); the same
index with other content after a reorg is another task, the same content mined again at the same height is the same.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from watcher.state import State


@dataclass(frozen=True, slots=True)
class Sighting:
    """The place of a log on the chain. Hashes are 32 bytes.

    `block_time_s` is the time of the block in seconds since 1970, 0 where no reply has shown it. Hooks do not get it:
    nodes differ in what they show, and operators must answer alike.
    """

    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int
    block_time_s: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Task:
    """A task, as the event of its creation describes it.

    `created_block` is the contract's own `taskCreatedBlock`, which on some chains differs from the block number of
    the log. `deadline_block` is the last block in which a response is admissible, None without a response window. Both
    are numbers as the contract counts; compare them with `closed_block` and `contract_block` of a header. `deadline_s`
    is a deadline that the contract gives as a time (seconds since 1970, by the timestamps of blocks). `log` holds the
    topics and data of the event, from which the convention reads every value again; `fields` holds those values by
    name, for the hook.
    """

    chain_id: int
    task_manager: bytes  # 20 bytes
    task_index: int  # uint256 at most
    task_hash: bytes  # 32 bytes: keccak256(abi.encode(Task)), as allTaskHashes holds it
    created_block: int
    message: bytes
    quorum_numbers: bytes
    quorum_threshold: int  # percent
    deadline_block: int | None
    seen_at: Sighting
    log: bytes = b""
    deadline_s: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DecodedTask(Task):
    """A task as a hook gets it whose messages have types (hook.message).

    `message` holds the values: of a tuple, by place and by name; `raw_message` holds the bytes.
    """

    message: Any
    raw_message: bytes = b""


@dataclass(frozen=True, slots=True)
class Responded:
    """A response event of the contract, such as `TaskResponded`.

    `response_hash` is the hash that the contract stores, as a rule keccak256(abi.encode(response, metadata)). `log`
    holds topics and data, from which anybody can compute the hash again.
    """

    task_index: int
    message: bytes
    log: bytes
    response_hash: bytes
    seen_at: Sighting


@dataclass(frozen=True, slots=True)
class Header:
    """The part of a block header that the program uses: height, hashes and time.

    `l1_block` is the parent chain's block as this block's transactions see it in `block.number`, on chains whose
    contracts count those (Arbitrum, Orbit); None where contracts count the chain's own blocks.
    """

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp_s: int = field(default=0, compare=False)  # 0: unknown
    l1_block: int | None = None

    @property
    def contract_block(self) -> int:
        """Return `block.number` as a contract sees it in this block."""
        return self.number if self.l1_block is None else self.l1_block

    @property
    def closed_block(self) -> int:
        """Return the highest block, as contracts count, to which no later block belongs. Compare deadlines with it.

        The next block may still belong to the same block of the parent chain.
        """
        return self.number if self.l1_block is None else self.l1_block - 1


@dataclass(frozen=True, slots=True)
class Response:
    """The answer of the hook. Stored once; every attempt to send carries exactly these bytes."""

    resp_message: bytes
    hook_version: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Skip:
    """A hook's result: do not answer this task."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """A hook's result: ask again after so many blocks or seconds, whichever is later. Does not count as an attempt."""

    blocks: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """An answer as the contract takes it, with the digest that the operators sign.

    `params_raw` is abi.encode of the arguments of `method`, without the last one (NonSignerStakesAndSignature) and the
    selector. The signatures are checked against the stakes of `reference_block`, for each of `quorum_numbers` with the
    threshold at the same place, in percent.
    """

    method: str
    params_raw: bytes
    sig_hash: bytes  # 32 bytes
    reference_block: int
    quorum_numbers: tuple[int, ...]
    quorum_thresholds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The API accepted the answer. `tx_hash` is None without a claim (32 zero bytes count as none). Both are claims."""

    tx_hash: bytes | None = None
    sig_hash: bytes | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer is certainly not accepted. `endpoint`: the API refuses us (401, 403, 404), not the task."""

    reason: str
    code: int | None = None
    endpoint: bool = False
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer may or may not be accepted: time-out, reset, 5xx, unreadable reply. Only the chain resolves it."""

    reason: str
    retry_after_s: float | None = None


Outcome = Accepted | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Sent:
    """One finished attempt to send: the outcome, and the evidence of it."""

    outcome: Outcome
    http_status: int | None
    answer: bytes  # the body of the reply, cut to a limit
    duration_ms: int

    @property
    def reason(self) -> str:
        """Return the message of the API, or why there is no usable reply."""
        return self.outcome.reason


@dataclass(frozen=True, slots=True)
class RespondedByUs:
    """The chain holds our response: event and stored hash agree."""

    response: Responded


@dataclass(frozen=True, slots=True)
class RespondedOtherwise:
    """The chain holds a response with other bytes than ours."""

    response: Responded


@dataclass(frozen=True, slots=True)
class NotYet:
    """A node that has reached `at` shows the task and no response to it; the window is open in the next block."""

    at: Header


@dataclass(frozen=True, slots=True)
class Expired:
    """A node that has reached `at` shows no response, and no block after `at` is within the window."""

    at: Header


@dataclass(frozen=True, slots=True)
class Orphaned:
    """At `at` the contract holds another hash at this index, or none (`empty`), as an empty cache would show too."""

    at: Header
    empty: bool = False


@dataclass(frozen=True, slots=True)
class NoEvidence:
    """The reading proves nothing (the response event has not been read yet, the node lags): ask again.

    `event_missing`: the contract holds a response, and the ledger has no log of it.
    """

    why: str
    event_missing: bool = False


@dataclass(frozen=True, slots=True)
class WouldRevert:
    """NotYet, and in a dry run at `at` the contract reverts.

    `park`: it reverts until a person or an upgrade changes something; otherwise a later block may be enough.
    """

    at: Header
    reason: str
    park: bool


Verdict = RespondedByUs | RespondedOtherwise | NotYet | WouldRevert | Expired | Orphaned | NoEvidence

# Handed to the submitter by the wiring, so that no stage imports another: one verdict per task, in order.
Resolve = Callable[[Sequence["OpenTask"]], Awaitable[Sequence[Verdict]]]


class Absent(StrEnum):
    """The thing that a reading does not show."""

    TASK = "task"  # a view is zero: no hash at the task's index
    RESPONSE = "response"  # a view is zero: no response to the task
    EVENT = "event"  # the contract holds a response, and the logs in the ledger do not


@dataclass(frozen=True, slots=True)
class Absence:
    """The first of two readings that do not show something: the thing, the block and the time of the reading."""

    of: Absent
    block_number: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task as a stage takes it from the ledger: row id, fence of the lease, and the progress so far."""

    row_id: int
    task: Task
    state: State
    fence: int
    attempts: int  # POSTs begun
    hook_attempts: int  # hook runs that failed
    response: bytes | None
    tx_hash: bytes | None = None  # claimed by the API
    responded_block: int | None = None
    response_hash: bytes | None = None
    updated_at_ms: int = 0
    absence: Absence | None = None
