"""The result of a proof, as `watcher prove --json` prints it."""

from dataclasses import asdict, dataclass, field
from typing import Any

LISTED_LIMIT = 100  # differences and senders in the result; the others are counted

Value = int | str | None


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """A value that the ledger and the chain give differently. `column` is a column of the table `tasks`.

    Bytes are 0x hex; None: there is none.
    """

    task_index: int
    column: str
    ledger: Value = field(compare=False)
    chain: Value = field(compare=False)


@dataclass(frozen=True, slots=True)
class Sender:
    """An address that sent answers, and how many with our bytes and with others.

    A node has shown the transactions of `read` answers; of the other ones only the ledger names the sender. `address`
    is None where neither knows it.
    """

    address: str | None
    answered_by_us: int
    answered_otherwise: int
    read: int


@dataclass(frozen=True, slots=True)
class Unchecked:
    """What was not compared, because no node showed it: "logs", "deadlines", "times" or "senders" of `tasks` tasks."""

    what: str
    tasks: int
    reason: str


@dataclass(slots=True)
class Proof:
    """The result of `watcher prove`. The field names are an interface: fields are added, never renamed or removed.

    `latest_task_num` is the next index, None if the contract does not count its tasks. `unproven` names the claims that
    rest on the logs alone for this contract: "completeness", "tasks", "answers". `read_twice` counts the tasks whose
    logs second_reading.py has compared; `read_differently` are those with other values. `compared` counts the tasks
    whose rows comparison.py has compared with the chain's logs; of its `differences_found` the first are in
    `differences`.
    """

    chain_id: int
    task_manager: str
    block_number: int
    block_hash: str
    latest_task_num: int | None
    first_index: int
    known: int = 0
    missing: list[int] = field(default_factory=list)
    mismatched: list[int] = field(default_factory=list)
    answered_by_us: int = 0
    answered_otherwise: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    read_twice: int = 0
    read_differently: list[int] = field(default_factory=list)
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    differences_found: int = 0
    senders: list[Sender] = field(default_factory=list)
    unchecked: list[Unchecked] = field(default_factory=list)

    @property
    def complete(self) -> bool | None:
        """True if no index is missing; None if the contract does not count its tasks, so that nothing shows it."""
        return None if self.latest_task_num is None else not self.missing

    @property
    def answered(self) -> int:
        """The number of answered tasks, by anybody."""
        return self.answered_by_us + len(self.answered_otherwise)

    @property
    def missed(self) -> int:
        """The number of tasks whose deadline passed without an answer: those of `expired`."""
        return len(self.expired)

    @property
    def not_yet_answered(self) -> int:
        """The number of tasks that can still be answered: those of `open`."""
        return len(self.open)

    @property
    def ok(self) -> bool:
        """True without a hole, and if neither chain, logs nor second reader contradict the ledger."""
        return not (self.missing or self.mismatched or self.read_differently or self.differences_found)

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        derived = ("complete", "answered", "missed", "not_yet_answered", "ok")
        return asdict(self) | {name: getattr(self, name) for name in derived}
