"""The pace of sending: what may be under way, and when a task is due again after what came of an attempt. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from watcher.backoff import delay_s
from watcher.ledger.claims import RetryAt, decision_block
from watcher.operator.refusal import stubborn
from watcher.task import Accepted, Header, OpenTask, Refused, Sent, Task, Unknown

# The doubling of this attempt is beyond every limit on pauses.
_SLOWEST = 30
# A pause leaves room for so many more tries before the deadline.
_TRIES = 4
# Around the request itself: looking at the chain before it, writing down its outcome after it.
_LEASE_SPARE_S = 60

LeftS = Callable[[Task, Header], float | None]


@dataclass(frozen=True, slots=True)
class SubmitPlan:
    """How to send. `resolve_after_blocks`: after an unknown or accepted outcome the chain gets this many blocks."""

    concurrency: int
    timeout_s: float
    retry_base_s: float
    retry_max_s: float
    resolve_after_blocks: int
    idle_s: float

    @property
    def lease_ms(self) -> int:
        """For how long a task is claimed (ms): longer than any request takes."""
        return int((2 * self.timeout_s + _LEASE_SPARE_S) * 1000)

    def delay_s(self, random: Callable[[], float], attempt: int, retry_after_s: float | None = None) -> float:
        """Seconds until the attempt after number `attempt`, no earlier than the API asks."""
        return delay_s(attempt, self.retry_base_s, self.retry_max_s, random, retry_after_s=retry_after_s)

    def within_s(self, pause_s: float, left_s: float | None) -> float:
        """Return `pause_s`, or less where a deadline in `left_s` seconds (None: no deadline) asks for more tries.

        Whoever dictates the pause, it is a share of the time left; `retry_base_s` is the least.
        """
        return pause_s if left_s is None else min(pause_s, max(left_s / _TRIES, self.retry_base_s))

    def again(
        self, held: OpenTask, sent: Sent, at: Header, random: Callable[[], float], left_s: float | None = None
    ) -> RetryAt:
        """When to look next: at the chain after an outcome that may have landed, else when the next attempt is due.

        `at`: the block that showed no response before it was sent. `left_s`: the time it then had left, in seconds,
        None without a deadline.
        """
        if left_s is not None:
            left_s = max(0.0, left_s - sent.duration_ms / 1000)
        decision = decision_block(
            held.task.deadline_block, at.number, self.resolve_after_blocks, l1_blocks=at.l1_block is not None
        )
        match sent.outcome:
            case Accepted():
                return RetryAt(at_block=decision)
            case Unknown(retry_after_s=pause_s):
                return RetryAt(
                    int(self.within_s(self.delay_s(random, 1, pause_s), left_s) * 1000) if pause_s else 0, decision
                )
            case Refused(endpoint=True):
                return RetryAt()  # the circuit says when
            case Refused(retry_after_s=pause_s) as outcome:
                # What will hardly change by itself is asked for at the slowest pace from the start.
                attempt = _SLOWEST if stubborn(outcome) else held.attempts
                return RetryAt(int(self.within_s(self.delay_s(random, attempt, pause_s), left_s) * 1000))
