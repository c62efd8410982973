"""The service level of a time: how many tasks were answered in time, by whom, how fast, after how many attempts.

Invariant: memory does not grow with the tasks: values are counted in rounded classes, and lists are cut.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy.engine import Row

from watcher.ledger import queries
from watcher.ledger.reader import Reader
from watcher.ledger.service_level import Tries, task_outcomes, tries_of
from watcher.report.distribution import Distribution
from watcher.state import NOT_HELD, State

SHARES = (50, 95, 99)
_UNANSWERED_LIMIT = 100
_ADDRESSES_LIMIT = 1000
_POSTS_TOLD = 9  # attempts for one task; more are one class


class Result(StrEnum):
    """What became of a task, as a service level counts it."""

    OURS = "answered_by_us"
    OTHER = "answered_otherwise"
    LATE = "late"
    DELIVERED = "delivered"
    MISSED = "missed"
    GIVEN_UP = "given_up"
    SKIPPED = "skipped"
    OPEN = "open"
    BEFORE = "before_the_ledger"
    OFF_CHAIN = "off_chain"


IN_TIME = frozenset({Result.OURS, Result.OTHER, Result.DELIVERED})
FAILED = frozenset({Result.LATE, Result.MISSED, Result.GIVEN_UP})
_BY_STATE = {
    State.RESPONDED: Result.OURS,
    State.FINAL: Result.OURS,
    State.RESPONDED_OTHER: Result.OTHER,
    State.FINAL_OTHER: Result.OTHER,
    State.DELIVERED: Result.DELIVERED,
    State.EXPIRED: Result.MISSED,
    State.FAILED: Result.GIVEN_UP,
    State.SKIPPED: Result.SKIPPED,
}
_OTHERS = frozenset({State.RESPONDED_OTHER, State.FINAL_OTHER})


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A task that was not answered in time, with the reason that the ledger has."""

    task_index: int
    result: Result
    deadline_block: int | None
    reason: str


@dataclass(slots=True)
class Level:
    """The service level of some tasks. Times are milliseconds.

    `to_post_ms`: from the creation of a task to its first POST; `post_to_chain_ms` from there to the block of our
    response; `to_chain_ms` and `to_chain_blocks` from creation to that block.
    """

    begin_ms: int
    end_ms: int
    results: Counter[Result] = field(default_factory=Counter)
    to_post_ms: Distribution = field(default_factory=Distribution)
    post_to_chain_ms: Distribution = field(default_factory=Distribution)
    to_chain_ms: Distribution = field(default_factory=Distribution)
    to_chain_blocks: Distribution = field(default_factory=Distribution)

    @property
    def tasks(self) -> int:
        return self.results.total()

    @property
    def in_time(self) -> int:
        return sum(self.results[result] for result in IN_TIME)

    @property
    def decided(self) -> int:
        """The tasks that count: answered in time, or not. Neither open ones, nor skipped, nor those before us."""
        return self.in_time + sum(self.results[result] for result in FAILED)

    @property
    def in_time_share(self) -> float | None:
        return self.in_time / self.decided if self.decided else None

    @property
    def by_us_share(self) -> float | None:
        ours = self.results[Result.OURS] + self.results[Result.DELIVERED]
        return ours / self.decided if self.decided else None


@dataclass(slots=True)
class ServiceLevel:
    """The service level of a time, as a whole and in `steps` of equal length, and what belongs beside it.

    `responders` counts the answered tasks by the address that sent the response (None: unknown) and by whether its
    bytes are ours; `posts` the tasks by the number of their POSTs; `outcomes` the attempts as `Tries` does.
    `windows_blocks` are the response windows. `unanswered` are the first tasks that were not answered in time.
    `untimed` counts our answers whose block has no known time, `without_story` those without a POST in the ledger.
    `l1_deadlines`: deadlines count the parent chain's blocks, and are not compared with those of this chain.
    """

    since_ms: int
    until_ms: int
    step_ms: int
    l1_deadlines: bool = False
    total: Level = field(init=False)
    steps: list[Level] = field(init=False)
    responders: Counter[tuple[bytes | None, bool]] = field(default_factory=Counter)
    posts: Counter[int] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str | None, int | None]] = field(default_factory=Counter)
    windows_blocks: Distribution = field(default_factory=Distribution)
    unanswered: list[Unanswered] = field(default_factory=list)
    unanswered_left_out: int = 0
    untimed: int = 0
    without_story: int = 0
    _first_ms: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Make the empty levels."""
        self.total = Level(self.since_ms, self.until_ms)
        first_ms = self.since_ms // self.step_ms * self.step_ms
        self.steps = [
            Level(max(begin_ms, self.since_ms), min(begin_ms + self.step_ms, self.until_ms))
            for begin_ms in range(first_ms, self.until_ms, self.step_ms)
        ]
        self._first_ms = first_ms

    def add(self, rows: Iterable[Row[Any]], tries: Tries) -> None:
        """Count some tasks with their attempts."""
        self.outcomes.update(tries.outcomes)
        for row in rows:
            self._add(row, tries)

    def _add(self, row: Row[Any], tries: Tries) -> None:
        result = self._result(row)
        levels = (self.total, self._step(row.time_ms))
        for level in levels:
            level.results[result] += 1
        if result in FAILED:
            self._tell(Unanswered(row.task_index, result, row.deadline_block, row.error or ""))
        if result in (Result.OURS, Result.OTHER, Result.LATE):
            self._count_responder(row)
        if result in (Result.BEFORE, Result.OFF_CHAIN):
            return
        if row.deadline_block is not None and not self.l1_deadlines:
            self.windows_blocks.add(row.deadline_block - row.block_number)
        first_post_ms = tries.first_post_ms.get(row.id)
        self.posts[min(tries.posts.get(row.id, 0), _POSTS_TOLD + 1)] += 1
        for level in levels:
            if first_post_ms is not None:
                level.to_post_ms.add(first_post_ms - row.time_ms)
            if result is Result.OURS or (result is Result.LATE and row.state not in _OTHERS):
                self._count_answer(level, row, first_post_ms)
        if result is Result.OURS and first_post_ms is None:
            self.without_story += 1

    def _count_answer(self, level: Level, row: Row[Any], first_post_ms: int | None) -> None:
        level.to_chain_blocks.add(row.responded_block - row.block_number)
        if row.responded_ms is None:
            self.untimed += level is self.total
            return
        level.to_chain_ms.add(row.responded_ms - row.time_ms)
        if first_post_ms is not None:
            level.post_to_chain_ms.add(row.responded_ms - first_post_ms)

    def _step(self, at_ms: int) -> Level:
        return self.steps[min(len(self.steps) - 1, max(0, (at_ms - self._first_ms) // self.step_ms))]

    def _result(self, row: Row[Any]) -> Result:
        state = State(row.state)
        if not row.canonical or state in NOT_HELD:
            return Result.OFF_CHAIN
        if row.is_history:
            return Result.BEFORE
        result = _BY_STATE.get(state, Result.OPEN)
        return Result.LATE if result in (Result.OURS, Result.OTHER) and self._is_late(row) else result

    def _is_late(self, row: Row[Any]) -> bool:
        """Return True for a response behind the deadline. Deadlines in the parent chain's blocks are not compared."""
        if row.deadline_s is not None and row.responded_ms is not None:
            return bool(row.responded_ms > row.deadline_s * 1000)
        if self.l1_deadlines or row.deadline_block is None or row.deadline_s is not None:
            return False
        return bool(row.responded_block > row.deadline_block)

    def _count_responder(self, row: Row[Any]) -> None:
        key = row.responded_by, row.state not in _OTHERS
        if key not in self.responders and len(self.responders) >= _ADDRESSES_LIMIT:
            key = None, key[1]
        self.responders[key] += 1

    def _tell(self, task: Unanswered) -> None:
        if len(self.unanswered) < _UNANSWERED_LIMIT:
            self.unanswered.append(task)
        else:
            self.unanswered_left_out += 1


def measure(reader: Reader, source_id: int, since_ms: int, until_ms: int, step_ms: int) -> ServiceLevel:
    """Read the service level of a time from the ledger, page by page, each from the last commit.

    Args:
        reader: the ledger.
        source_id: the task manager.
        since_ms: the first moment, in milliseconds since 1970.
        until_ms: the moment behind the last.
        step_ms: the length of a step.

    Raises:
        TryLater: the ledger cannot be read.
    """
    cursor = reader.read_now(queries.cursor, source_id)
    level = ServiceLevel(since_ms, until_ms, step_ms, l1_deadlines=cursor.head_l1_block is not None)
    after = None
    while rows := reader.read_now(task_outcomes, source_id, since_ms, until_ms, after):
        level.add(rows, reader.read_now(tries_of, [row.id for row in rows]))
        after = rows[-1]
    return level


def percent(share: float | None) -> str:
    """Return a share as percents that never round up to 100; "unknown" where there is none."""
    if share is None:
        return "unknown"
    return "100 %" if share == 1 else f"{min(share * 100, 99.999):.3f} %"
