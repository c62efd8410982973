"""Observations of the watcher at one moment: the plain values that `verdict.evaluate` rests on.

Times are ages in seconds, so that the values hold no clock; an age of None means never.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from watcher.health.conditions import API, HOOK, RPC, STORE, WATCH

# The backing services: name and description, as the Node API shows them.
SERVICES: Mapping[str, tuple[str, str]] = {
    RPC: ("Chain RPC", "The nodes the chain is read from"),
    API: ("Operator API", "The hosted operator that signs and sends the answers"),
    HOOK: ("Handler", "The hook that computes the answers"),
    STORE: ("Ledger", "The database that remembers every task"),
    WATCH: ("Watcher", "The stages that take each task from the chain to its answer"),
}


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """The nodes together. `answered_ago_s` is None before the first good reply; `head_block` is the head they show.

    `final_left_behind_s`: for how long the head has moved on without the final block. `final_at_head_s`: for how long
    both have moved together. `disagreement`: how endpoints contradict each other, for `disagreeing_s`.
    """

    answered_ago_s: float | None = None
    reason: str = ""
    head_block: int | None = None
    head_moved_ago_s: float = 0.0
    usual_interval_s: float | None = None
    final_left_behind_s: float = 0.0
    disagreement: str = ""
    disagreeing_s: float = 0.0
    final_at_head_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ApiSeen:
    """The operator's API. `failures` in a row; `refuses`: it refuses us whatever the task (401, 403, 404)."""

    refuses: bool = False
    failures: int = 0
    reason: str = ""
    used: bool = False


@dataclass(frozen=True, slots=True)
class HookSeen:
    """The hook. `failures` in a row over all tasks; `waiting`: the number of tasks that wait for a run.

    `silent_s`: for how long runs have gone on without one that ended; `longest_s`: the longest such silence that ended
    with a result. `changed` names the source files that differ from those the workers loaded.
    """

    failures: int = 0
    failed_ago_s: float = 0.0
    reason: str = ""
    waiting: int = 0
    workers: int = 1
    silent_s: float = 0.0
    longest_s: float = 0.0
    changed: str = ""


@dataclass(frozen=True, slots=True)
class StoreSeen:
    """The ledger. `condition`: why the last write or reading failed, None when it succeeded.

    `waits_s`: how long the oldest write has waited for its commit, 0 without one. `held_back` says which tasks a
    restored ledger holds back.
    """

    condition: str | None = None
    waits_s: float = 0.0
    held_back: str = ""


@dataclass(frozen=True, slots=True)
class StageSeen:
    """A stage: the age of its last step, and the condition that it waits for, for `waiting_s`."""

    name: str
    beat_ago_s: float = 0.0
    condition: str | None = None
    waiting_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkSeen:
    """The ledger's own numbers. Blocks are heights.

    `nearest_deadline_block`: of the open tasks without a response on the chain; `endangered` counts those within
    `Limits.danger_blocks` of the head. `closed_block`: the head as deadlines are compared with it, None where that is
    its height. `seconds_left` and `endangered_by_time`: the same for deadlines that are times, by the chain's own
    time. `unshown`: responses in a row that the API accepted and the chain never showed. `overdue_s`: for how long the
    oldest task that is due has not been claimed; `moved_ago_s`: the age of the last transition of any task.
    """

    cursor_block: int
    head_block: int
    final_block: int
    open_tasks: int = 0
    nearest_deadline_block: int | None = None
    closed_block: int | None = None
    endangered: int = 0
    overdue_s: float = 0.0
    moved_ago_s: float = 0.0
    seconds_left: float | None = None
    endangered_by_time: int = 0
    unshown: int = 0
    unshown_reason: str = ""

    @property
    def blocks_left(self) -> int | None:
        """Blocks to the nearest deadline, as the contract counts them; None without one."""
        if self.nearest_deadline_block is None:
            return None
        return self.nearest_deadline_block - (self.head_block if self.closed_block is None else self.closed_block)

    def left_s(self, block_s: float) -> float | None:
        """Return the seconds to the nearest deadline of an unanswered task; a block comes every `block_s` seconds."""
        by_block = None if self.blocks_left is None else self.blocks_left * block_s
        return min((left for left in (by_block, self.seconds_left) if left is not None), default=None)

    @property
    def lag_blocks(self) -> int:
        return max(0, self.head_block - self.cursor_block)


@dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """This process among those that share its ledger.

    `leader` is the host of the leader, "" if nobody leads. `live` has the number of live replicas by role, `count` that
    of all. `missing` are the roles that no live replica does, for `missing_s`. `share`: how many requests this one may
    have on their way. `is_told`: others tell it of work as it comes; else it polls.
    """

    id: int
    roles: tuple[str, ...]
    leads: bool
    leader: str
    count: int
    live: Mapping[str, int]
    missing: tuple[str, ...]
    missing_s: float
    share: int
    is_told: bool


@dataclass(frozen=True, slots=True)
class Observations:
    """Everything that an evaluation rests on. `api` and `hook` are None where this process does not use them.

    `answered_elsewhere`: another process with the same ledger sends the answers. `replica` is None where nobody shares
    the ledger. `work` is None until the ledger has been read once. `contradictions`: between the convention and the
    contract. `shadow`: what is wrong with the shadow, "" if nothing is. `roots`: which receivers lack a root of the
    audit chain, and why, "" if none does.
    """

    at_ms: int
    started: bool = False
    node: NodeSeen = NodeSeen()
    api: ApiSeen | None = None
    hook: HookSeen | None = None
    store: StoreSeen = StoreSeen()
    stages: Sequence[StageSeen] = ()
    work: WorkSeen | None = None
    contradictions: Sequence[str] = ()
    shadow: str = ""
    answered_elsewhere: bool = False
    replica: ReplicaSeen | None = None
    roots: str = ""

    @property
    def has_deadlines(self) -> bool:
        """Return False where nobody answers, so that no deadline has to be kept."""
        return self.api is not None or self.answered_elsewhere

    @property
    def reports_tasks(self) -> bool:
        """Return True unless another process reports what is wrong with tasks: the one that leads does, for all."""
        return self.replica is None or self.replica.leads


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of normal.

    `danger_blocks`: an unanswered task with this many blocks left, or fewer, is in danger; `danger_s`: the same in
    seconds, for deadlines that are times. `unshown`: accepted responses in a row that the chain does not show.
    `silent_hook_s`: a hook without a result for longer is reported, before its time limit ends the run.
    `slow_finality_s`: Ethereum makes blocks final every 6 minutes, roll-ups every 15 to 30. `disagreeing_s`: nodes
    that follow a reorg contradict each other for a moment. `missing_role_s`: another replica takes a lead over sooner.
    """

    quiet_node_s: float = 15.0
    stuck_s: float = 60.0
    slow_store_s: float = 15.0
    danger_blocks: int = 10
    danger_s: float = 120.0
    unshown: int = 5
    silent_hook_s: float = 20.0
    slow_finality_s: float = 3600.0
    disagreeing_s: float = 10.0
    final_at_head_s: float = 600.0
    missing_role_s: float = 15.0
