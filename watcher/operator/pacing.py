"""The pace of sending: concurrency, leases, and the next due time after an attempt. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from watcher.backoff import delay_s
from watcher.ledger.claims import RetryAt
from watcher.ledger.sending import decision_block
from watcher.operator.refusal import stubborn
from watcher.task import Accepted, Header, OpenTask, Refused, Sent, Task, Unknown

# From this attempt on the doubled pause is above every `retry_max_s`.
_SLOWEST_ATTEMPT = 30
# A pause is at most this share of the time left, so that as many more attempts fit before the deadline.
_ATTEMPTS_LEFT = 4
# The part of a lease for the work around the request: reading the chain before it, writing the outcome after it.
_LEASE_SPARE_S = 60

LeftS = Callable[[Task, Header], float | None]


@dataclass(frozen=True, slots=True)
class SubmitPlan:
    """The settings of the submit stage, in seconds and blocks.

    `resolve_after_blocks`: blocks the chain gets to show a response after an unknown or accepted outcome.
    """

    concurrency: int
    timeout_s: float
    retry_base_s: float
    retry_max_s: float
    resolve_after_blocks: int
    idle_s: float

    @property
    def lease_ms(self) -> int:
        """Return the length of a claim in ms; it outlasts any request."""
        return int((2 * self.timeout_s + _LEASE_SPARE_S) * 1000)

    def delay_s(self, random: Callable[[], float], attempt: int, retry_after_s: float | None = None) -> float:
        """Return the seconds to wait after attempt number `attempt`; at least what the API asks for."""
        return delay_s(attempt, self.retry_base_s, self.retry_max_s, random, retry_after_s=retry_after_s)

    def within_s(self, pause_s: float, left_s: float | None) -> float:
        """Return `pause_s`, shortened to a share of the time left before the deadline.

        The limit also holds for a pause that the API asks for. It is never below `retry_base_s`.

        Args:
            pause_s: the pause without a deadline, in seconds.
            left_s: seconds until the deadline; None: no deadline.
        """
        return pause_s if left_s is None else min(pause_s, max(left_s / _ATTEMPTS_LEFT, self.retry_base_s))

    def retry_at(
        self, open_task: OpenTask, sent: Sent, at: Header, random: Callable[[], float], left_s: float | None = None
    ) -> RetryAt:
        """Return when the task is due again after an attempt.

        After an outcome that may have landed, the task is due when the chain has had time to show it; after any other,
        when the next attempt is due.

        Args:
            open_task: the task as the attempt holds it.
            sent: the attempt.
            at: the block that showed no response right before the POST.
            random: numbers in [0, 1) for the jitter.
            left_s: seconds from `at` to the deadline; None: no deadline.
        """
        if left_s is not None:
            left_s = max(0.0, left_s - sent.duration_ms / 1000)
        decision = decision_block(
            open_task.task.deadline_block, at.number, self.resolve_after_blocks, l1_blocks=at.l1_block is not None
        )
        match sent.outcome:
            case Accepted():
                return RetryAt(at_block=decision)
            case Unknown(retry_after_s=pause_s):
                return RetryAt(
                    int(self.within_s(self.delay_s(random, 1, pause_s), left_s) * 1000) if pause_s else 0, decision
                )
            case Refused(endpoint=True):
                return RetryAt()  # The circuit decides when the next request goes out.
            case Refused(retry_after_s=pause_s) as refusal:
                # A refusal that repeating will hardly change is retried at the slowest pace from the start.
                attempt = _SLOWEST_ATTEMPT if stubborn(refusal) else open_task.attempts
                return RetryAt(int(self.within_s(self.delay_s(random, attempt, pause_s), left_s) * 1000))
