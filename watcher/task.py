"""The values that flow through the program, and the moves a task may make.

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
    """Where on the chain a log was seen. Hashes are 32 bytes."""

    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class Task:
    """What the chain asked for.

    `created_block` is the contract's own `taskCreatedBlock`, which on some chains differs from the block number of
    the log. `deadline_block` is the last block in which a response is admissible, or None where there is no window.
    Both are numbers as the contract counts; compare them with a header's `closed_block` and `contract_block`.
    `deadline_s` the same as a time (seconds since 1970, by the block's own timestamp), where the contract says it so.
    `log` is topics and data of the event, from which the convention reads every value again; `fields` are those values
    by name, for the hook.
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
class Responded:
    """A log that shows an answer, such as `TaskResponded`.

    `response_hash` is what the contract stores of it, keccak256(abi.encode(response, metadata)) as a rule. `log` is its
    topics and data, so that anybody can compute the hash again.
    """

    task_index: int
    message: bytes
    log: bytes
    response_hash: bytes
    seen_at: Sighting


@dataclass(frozen=True, slots=True)
class Header:
    """A block as far as we need it: its height and the hashes that chain it.

    `l1_block` is the parent chain's block as this block's transactions see it in `block.number`, on chains whose
    contracts count those (Arbitrum, Orbit); None where contracts count the chain's own blocks.
    """

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp_s: int = field(default=0, compare=False)  # 0 where it is not known
    l1_block: int | None = None

    @property
    def contract_block(self) -> int:
        """The number of this block as a contract sees it."""
        return self.number if self.l1_block is None else self.l1_block

    @property
    def closed_block(self) -> int:
        """The highest block, as contracts count, that no later block belongs to: compare deadlines with this one.

        The next block may still belong to the same block of the parent chain.
        """
        return self.number if self.l1_block is None else self.l1_block - 1


@dataclass(frozen=True, slots=True)
class Response:
    """What the hook answered. Written once; every attempt to send carries exactly these bytes."""

    resp_message: bytes
    hook_version: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Skip:
    """The hook's verdict: this task is not to be answered."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """The hook's verdict: ask again after so many blocks or seconds, whichever is later. Burns no attempt."""

    blocks: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """An answer as the contract takes it, and what the operators sign for it.

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
    """The API said yes. `tx_hash` is None when it named none (32 zero bytes count as none). Both are claims."""

    tx_hash: bytes | None = None
    sig_hash: bytes | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Certainly not accepted. `endpoint` is True when the refusal is about us (401, 403, 404), not about the task."""

    words: str
    code: int | None = None
    endpoint: bool = False
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say whether it was accepted: time-out, reset, 5xx, nonsense. Only the chain resolves it."""

    why: str
    retry_after_s: float | None = None


Outcome = Accepted | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Sent:
    """One finished attempt to send: the outcome and the evidence kept of it."""

    outcome: Outcome
    http_status: int | None
    answer: bytes  # what came back, cut to a limit
    duration_ms: int

    @property
    def words(self) -> str:
        """What the API said, or why nothing was heard."""
        return self.outcome.why if isinstance(self.outcome, Unknown) else self.outcome.words


@dataclass(frozen=True, slots=True)
class RespondedByUs:
    """The chain shows our bytes: event and stored hash agree."""

    response: Responded


@dataclass(frozen=True, slots=True)
class RespondedOtherwise:
    """The chain shows a response whose bytes are not ours."""

    response: Responded


@dataclass(frozen=True, slots=True)
class NotYet:
    """A node that has reached `at` holds the task and no response to it, and the window is open in the next block."""

    at: Header


@dataclass(frozen=True, slots=True)
class Expired:
    """A node that has reached `at` holds no response, and no block after `at` is within the window."""

    at: Header


@dataclass(frozen=True, slots=True)
class Orphaned:
    """At `at` the contract holds another hash at this index, or none (`empty`), which an empty cache says as well."""

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
    """As NotYet, and a dry run at `at` says that the contract would refuse our answer.

    `park`: it will go on doing so until a person or an upgrade changes something; else the next block may be enough.
    """

    at: Header
    words: str
    park: bool


Verdict = RespondedByUs | RespondedOtherwise | NotYet | WouldRevert | Expired | Orphaned | NoEvidence

# What `app` hands the submitter, so that no stage imports another: one verdict per task, in order.
Resolve = Callable[[Sequence["OpenTask"]], Awaitable[Sequence[Verdict]]]


class Absent(StrEnum):
    """What a reading does not show."""

    TASK = "task"  # a view is zero: no hash at the task's index
    RESPONSE = "response"  # a view is zero: no response to the task
    EVENT = "event"  # the contract holds a response, and the logs in the ledger do not


@dataclass(frozen=True, slots=True)
class Absence:
    """The first reading that did not show something, while another one is awaited: what was absent, where and when."""

    of: Absent
    block_number: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task as a stage takes it from the ledger: its row id, the fence of the lease, and what is known so far."""

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
