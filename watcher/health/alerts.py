"""Alerts: hears what is true about the watcher, and decides what is told to people and when.

Invariant: hearing never waits and never raises; each trouble is told once when it begins and once when it is over,
with reminders between; together there are no more messages than the limits allow, and nothing is dropped for that, it
only goes together.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from loguru import logger

from watcher.clock import Clock
from watcher.errors import Halt
from watcher.health.alert_text import (
    FINALITY,
    GIVEN_UP,
    MISSED,
    OTHERWISE,
    STOPPED,
    Change,
    Item,
    Message,
    compose,
    indices,
)
from watcher.health.delivery import Delivery
from watcher.health.verdict import Health
from watcher.ledger.history import BEFORE
from watcher.ledger.stats import Moved
from watcher.settings import model
from watcher.state import State
from watcher.text import Redactor

_HOUR_S = 3600.0
_CALM_S = 5.0  # gone for so long counts as over
_GATHER_S = 2.0  # what breaks together is told together
_INDICES_KEPT = 20

ONCE_BY_STATE = {State.EXPIRED: MISSED, State.RESPONDED_OTHER: OTHERWISE, State.FAILED: GIVEN_UP}


@dataclass(frozen=True, slots=True)
class AlertPlan:
    """The limits, as [alerts] has them."""

    interval_s: float
    hourly_limit: int
    repeat_s: float

    @classmethod
    def of(cls, section: model.Alerts) -> "AlertPlan":
        return cls(section.interval_s, section.hourly_limit, section.repeat_s)


@dataclass(slots=True)
class _Raised:
    """A trouble as people know it. `told_s` is None until a message has carried it, `gone_s` while it is there."""

    words: str
    since_ms: int
    told_s: float | None = None
    gone_s: float | None = None
    ended_ms: int = 0


@dataclass(slots=True)
class _Happened:
    """Things that happened to tasks since the last message."""

    count: int = 0
    some: list[int] = field(default_factory=list)
    since_ms: int = 0


class Throttle:
    """Turns what is heard into messages. Holds no thread and no clock of its own: `due` is asked every few seconds."""

    def __init__(self, who: str, plan: AlertPlan, redactor: Redactor) -> None:
        self._plan = plan
        self._redactor = redactor
        self._who = who
        self._raised: dict[str, _Raised] = {}
        self._happened: dict[str, _Happened] = {}
        self._sent_s: deque[float] = deque()
        self._news_since_s: float | None = None

    def follow(self, plan: AlertPlan) -> None:
        """Take new limits."""
        self._plan = plan

    def hear(self, health: Health, now_s: float) -> None:
        """Take over what is wrong now."""
        here = {one.key: one for one in health.conditions}
        for key, condition in here.items():
            known = self._raised.setdefault(key, _Raised(condition.words, condition.since_ms))
            known.words, known.gone_s = condition.words, None
        for key, known in self._raised.items():
            if key not in here and known.gone_s is None:
                known.gone_s, known.ended_ms = now_s, health.at_ms

    def happened(self, key: str, task_indices: Sequence[int], at_ms: int) -> None:
        """Something happened to these tasks, which nothing undoes."""
        if not task_indices:
            return
        found = self._happened.setdefault(key, _Happened(since_ms=at_ms))
        found.count += len(task_indices)
        found.some += task_indices[: _INDICES_KEPT - len(found.some)]

    def due(self, now_s: float, now_ms: int) -> Message | None:
        """The message to send now, None when there is nothing to tell or it is not yet time."""
        news = self._news(now_s, now_ms)
        if not news:
            self._news_since_s = None
            return None
        if self._news_since_s is None:
            self._news_since_s = now_s
        if now_s - self._news_since_s < _GATHER_S or not self._may_send(now_s):
            return None
        self._told(now_s)
        return compose(self._who, news, self._redactor)

    def last(self, key: str, words: str, now_ms: int) -> Message:
        """The last message of a daemon that ends, with whatever was not told yet."""
        pending = [one for one in self._news(float("inf"), now_ms) if one.turn is not Change.LASTS]
        return compose(self._who, [Item(key, Change.ONCE, words, now_ms, now_ms), *pending], self._redactor)

    def _news(self, now_s: float, now_ms: int) -> list[Item]:
        news = [
            Item(key, Change.ONCE, indices(one.count, one.some), one.since_ms, now_ms)
            for key, one in self._happened.items()
        ]
        for key, known in self._raised.items():
            turn = self._turn(known, now_s)
            if turn is not None:
                end_ms = now_ms if known.gone_s is None else known.ended_ms
                news.append(Item(key, turn, known.words, known.since_ms, end_ms))
        return news

    def _turn(self, known: _Raised, now_s: float) -> Change | None:
        if known.gone_s is not None:
            over = now_s - known.gone_s >= _CALM_S
            return None if not over else Change.PASSED if known.told_s is None else Change.ENDED
        if known.told_s is None:
            return Change.BEGAN
        return Change.LASTS if 0 < self._plan.repeat_s <= now_s - known.told_s else None

    def _may_send(self, now_s: float) -> bool:
        while self._sent_s and now_s - self._sent_s[0] >= _HOUR_S:
            self._sent_s.popleft()
        fresh = bool(self._sent_s) and now_s - self._sent_s[-1] < self._plan.interval_s
        return not fresh and len(self._sent_s) < self._plan.hourly_limit

    def _told(self, now_s: float) -> None:
        self._sent_s.append(now_s)
        self._news_since_s = None
        self._happened.clear()
        for key, known in list(self._raised.items()):
            match self._turn(known, now_s):
                case Change.ENDED | Change.PASSED:
                    del self._raised[key]
                case Change.BEGAN | Change.LASTS:
                    known.told_s = now_s


class Alerts:
    """The desk and the couriers of a running daemon. Without URLs it hears and tells nobody."""

    def __init__(self, section: model.Alerts, who: str, clock: Clock, redactor: Redactor) -> None:
        """Connect to the services of [alerts].

        Args:
            section: services and limits.
            who: which watcher speaks.
            clock: the time.
            redactor: hides the secrets in messages.

        Raises:
            FixConfiguration: Apprise does not know what a URL names.
        """
        self._clock = clock
        self._desk = Throttle(who, AlertPlan.of(section), redactor)
        self._courier = Delivery.of(section)

    def follow(self, section: model.Alerts) -> None:
        """Take new URLs and limits. Raises FixConfiguration, and then everything stays as it was."""
        delivery = Delivery.of(section)
        old, self._courier = self._courier, delivery
        self._desk.follow(AlertPlan.of(section))
        old.close()

    def hear(self, health: Health) -> None:
        """A listener for `Monitor`: called with every judgement."""
        self._desk.hear(health, self._clock.monotonic_s())
        self.tick()

    def moved(self, moves: Sequence[Moved]) -> None:
        """A listener for `Monitor.on_move`: tasks have changed their states. Of what was over before nobody is told."""
        for state, key in ONCE_BY_STATE.items():
            found = [one.task_index for one in moves if one.to_state == state and not one.why.endswith(BEFORE)]
            self._desk.happened(key, found, self._clock.now_ms())

    def tick(self) -> None:
        """Send what is due."""
        message = self._desk.due(self._clock.monotonic_s(), self._clock.now_ms())
        if message is not None:
            self._courier.post(message)
        self._courier.look()

    async def last_words(self, error: BaseException) -> None:
        """Tell that the daemon ends because of an error, and wait for it, within the time limit."""
        key = FINALITY if isinstance(error, Halt) else STOPPED
        words = str(error).partition("\n")[0] or type(error).__name__
        if not isinstance(error, Exception):
            return
        await self._deliver(self._desk.last(key, words, self._clock.now_ms()))

    async def _deliver(self, message: Message) -> None:
        failed = await self._courier.deliver(message, self._clock)
        if failed:
            logger.warning("the last alert did not reach {}", ", ".join(failed))

    def close(self) -> None:
        """Let the couriers go; what they carry is delivered or lost with the process."""
        self._courier.close()


def who(chain_id: int, address: str) -> str:
    """Name a watcher by its chain and its task manager's address."""
    return f"{address[:6]}..{address[-4:]} on chain {chain_id}"
