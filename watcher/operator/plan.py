"""The pace of sending: what may be under way, and when a task is due again after what came of an attempt. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from watcher.ledger.work import Again, decision_block
from watcher.operator.backoff import delay_s
from watcher.operator.refusal import stubborn
from watcher.task import Accepted, OpenTask, Refused, Sent, Unknown

# The doubling of this attempt is beyond every limit on pauses.
_SLOWEST = 30
# Around the request itself: looking at the chain before it, writing down its outcome after it.
_LEASE_SPARE_S = 60


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

    def again(self, held: OpenTask, sent: Sent, at_block: int, random: Callable[[], float]) -> Again:
        """When to look next: at the chain after an outcome that may have landed, else when the next attempt is due."""
        decision = decision_block(held.task.deadline_block, at_block, self.resolve_after_blocks)
        match sent.outcome:
            case Accepted():
                return Again(at_block=decision)
            case Unknown(retry_after_s=pause_s):
                return Again(int(self.delay_s(random, 1, pause_s) * 1000) if pause_s else 0, decision)
            case Refused(endpoint=True):
                return Again()  # the circuit says when
            case Refused(retry_after_s=pause_s) as outcome:
                # What will hardly change by itself is asked for at the slowest pace from the start.
                attempt = _SLOWEST if stubborn(outcome) else held.attempts
                return Again(int(self.delay_s(random, attempt, pause_s) * 1000))
