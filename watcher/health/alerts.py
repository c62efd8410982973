"""Alerts: which changes of conditions people get to know, and when.

Invariant: an update never waits and never raises. Each condition is reported once when it begins and once when it ends,
with reminders between. No more messages are sent than the limits allow, and nothing is dropped for that: the next
message carries it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from loguru import logger

from watcher.clock import Clock
from watcher.errors import Halt
from watcher.health.alert_text import Change, Item, Message, compose, indices, root_message
from watcher.health.conditions import FINALITY, GIVEN_UP, MISSED, OTHERWISE, STOPPED
from watcher.health.delivery import Delivery
from watcher.health.verdict import Health
from watcher.ledger.audit.roots import Root
from watcher.ledger.history import BEFORE
from watcher.ledger.journal_range import Transitions
from watcher.redact import Redactor
from watcher.settings.model import Alerts as AlertSettings
from watcher.state import State

_HOUR_S = 3600.0
_CALM_S = 5.0  # a condition that is gone for this long has ended
_GATHER_S = 2.0  # changes within this time share a message
_INDICES_KEPT = 20

ONCE_BY_STATE = {State.EXPIRED: MISSED, State.RESPONDED_OTHER: OTHERWISE, State.FAILED: GIVEN_UP}


@dataclass(frozen=True, slots=True)
class AlertPlan:
    """The limits, as [alerts] has them."""

    interval_s: float
    hourly_limit: int
    repeat_s: float

    @classmethod
    def of(cls, section: AlertSettings) -> "AlertPlan":
        return cls(section.interval_s, section.hourly_limit, section.repeat_s)


@dataclass(slots=True)
class _Raised:
    """A condition as people know it. `reported_s` is None until a message carries it, `gone_s` while it lasts."""

    message: str
    since_ms: int
    reported_s: float | None = None
    gone_s: float | None = None
    ended_ms: int = 0


@dataclass(slots=True)
class _Incidents:
    """Tasks that something happened to since the last message; `first` are some of their indices."""

    count: int = 0
    first: list[int] = field(default_factory=list)
    since_ms: int = 0


class Throttle:
    """Messages from changes, within the limits. Holds no thread and no clock; `due` is called every second."""

    def __init__(self, watcher: str, plan: AlertPlan, redactor: Redactor) -> None:
        self._plan = plan
        self._redactor = redactor
        self._watcher = watcher
        self._raised: dict[str, _Raised] = {}
        self._incidents: dict[str, _Incidents] = {}
        self._sent_s: deque[float] = deque()
        self._pending_since_s: float | None = None

    def follow(self, plan: AlertPlan) -> None:
        """Use new limits."""
        self._plan = plan

    def update(self, health: Health, now_s: float) -> None:
        """Record the conditions that hold now."""
        present = {condition.key: condition for condition in health.conditions}
        for key, condition in present.items():
            raised = self._raised.setdefault(key, _Raised(condition.message, condition.since_ms))
            raised.message, raised.gone_s = condition.message, None
        for key, raised in self._raised.items():
            if key not in present and raised.gone_s is None:
                raised.gone_s, raised.ended_ms = now_s, health.at_ms

    def happened(self, key: str, task_indices: Sequence[int], at_ms: int) -> None:
        """Record the incident `key` of these tasks; nothing ends it."""
        if not task_indices:
            return
        incidents = self._incidents.setdefault(key, _Incidents(since_ms=at_ms))
        incidents.count += len(task_indices)
        incidents.first += task_indices[: _INDICES_KEPT - len(incidents.first)]

    def due(self, now_s: float, now_ms: int) -> Message | None:
        """Return the message to send now, or None if nothing has changed or the limits say later."""
        items = self._items(now_s, now_ms)
        if not items:
            self._pending_since_s = None
            return None
        if self._pending_since_s is None:
            self._pending_since_s = now_s
        if now_s - self._pending_since_s < _GATHER_S or not self._may_send(now_s):
            return None
        self._mark_sent(now_s)
        return compose(self._watcher, items, self._redactor)

    def last(self, key: str, message: str, now_ms: int) -> Message:
        """Return the last message of a daemon that ends, with every change that no message has carried."""
        pending = [item for item in self._items(float("inf"), now_ms) if item.change is not Change.LASTS]
        return compose(self._watcher, [Item(key, Change.ONCE, message, now_ms, now_ms), *pending], self._redactor)

    def _items(self, now_s: float, now_ms: int) -> list[Item]:
        items = [
            Item(key, Change.ONCE, indices(incidents.count, incidents.first), incidents.since_ms, now_ms)
            for key, incidents in self._incidents.items()
        ]
        for key, raised in self._raised.items():
            change = self._change(raised, now_s)
            if change is not None:
                end_ms = now_ms if raised.gone_s is None else raised.ended_ms
                items.append(Item(key, change, raised.message, raised.since_ms, end_ms))
        return items

    def _change(self, raised: _Raised, now_s: float) -> Change | None:
        if raised.gone_s is not None:
            is_over = now_s - raised.gone_s >= _CALM_S
            return None if not is_over else Change.PASSED if raised.reported_s is None else Change.ENDED
        if raised.reported_s is None:
            return Change.BEGAN
        return Change.LASTS if 0 < self._plan.repeat_s <= now_s - raised.reported_s else None

    def _may_send(self, now_s: float) -> bool:
        while self._sent_s and now_s - self._sent_s[0] >= _HOUR_S:
            self._sent_s.popleft()
        is_too_soon = bool(self._sent_s) and now_s - self._sent_s[-1] < self._plan.interval_s
        return not is_too_soon and len(self._sent_s) < self._plan.hourly_limit

    def _mark_sent(self, now_s: float) -> None:
        self._sent_s.append(now_s)
        self._pending_since_s = None
        self._incidents.clear()
        for key, raised in list(self._raised.items()):
            match self._change(raised, now_s):
                case Change.ENDED | Change.PASSED:
                    del self._raised[key]
                case Change.BEGAN | Change.LASTS:
                    raised.reported_s = now_s


class Alerts:
    """The throttle and the delivery of a running daemon. Without URLs nothing is sent."""

    def __init__(self, section: AlertSettings, watcher: str, clock: Clock, redactor: Redactor) -> None:
        """Build the alerts of one daemon.

        Args:
            section: [alerts], services and limits.
            watcher: the name of the watcher in the titles, see `watcher_name`.
            clock: paces the messages.
            redactor: hides the secrets in messages.

        Raises:
            FixConfiguration: Apprise does not support a URL.
        """
        self._clock = clock
        self._watcher = watcher
        self._throttle = Throttle(watcher, AlertPlan.of(section), redactor)
        self._delivery = Delivery.of(section)

    def follow(self, section: AlertSettings) -> None:
        """Use new URLs and limits.

        Raises:
            FixConfiguration: Apprise does not support a URL; nothing has changed then.
        """
        delivery = Delivery.of(section)
        old, self._delivery = self._delivery, delivery
        self._throttle.follow(AlertPlan.of(section))
        old.close()

    def update(self, health: Health) -> None:
        """Record each new evaluation: a listener of `Monitor`."""
        self._throttle.update(health, self._clock.monotonic_s())
        self.tick()

    def moved(self, transitions: Transitions) -> None:
        """Record incidents of tasks: a listener of `Monitor.on_move`. Skips what was over before the ledger began."""
        for state, key in ONCE_BY_STATE.items():
            tasks = [
                move.task_index
                for move in transitions.lines
                if move.to_state == state and not move.why.endswith(BEFORE)
            ]
            self._throttle.happened(key, tasks, self._clock.now_ms())

    def tick(self) -> None:
        """Send the message that is due."""
        message = self._throttle.due(self._clock.monotonic_s(), self._clock.now_ms())
        if message is not None:
            self._delivery.post(message)
        self._delivery.check()

    def announce(self, root: Root, more: int) -> None:
        """Send the newest root of a past day, once; `more` are the older ones that came with it. Not throttled."""
        self._delivery.post(root_message(self._watcher, root, more))

    async def report_end(self, error: BaseException) -> None:
        """Send that the daemon ends because of `error`, and wait for it, within the time limit."""
        if not isinstance(error, Exception):
            return
        key = FINALITY if isinstance(error, Halt) else STOPPED
        reason = str(error).partition("\n")[0] or type(error).__name__
        message = self._throttle.last(key, reason, self._clock.now_ms())
        if failed := await self._delivery.deliver(message, self._clock):
            logger.warning("alert.last_lost: the last alert was not delivered", services=", ".join(failed))

    def close(self) -> None:
        """Close the delivery; messages under way are delivered or lost with the process."""
        self._delivery.close()


def watcher_name(chain_id: int, address: str, avs: str = "") -> str:
    """Return the name of a watcher in alerts, from its chain, its task manager's address and the name of its AVS."""
    contract = f"{address[:6]}..{address[-4:]} on chain {chain_id}"
    return f"{avs} ({contract})" if avs else contract
