"""The slots: requests that run at the same time, and the begun attempts that are ready for the next free slot.

Invariants: an attempt in `ready` is committed; it is sent only while its verdict is fresh, its circuit admits it, and
its lease outlasts the request.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Set

from watcher.clock import Clock
from watcher.inflight import InFlight
from watcher.operator.limit import Limit
from watcher.operator.line import Freshness
from watcher.operator.post import Post
from watcher.task import Sent

# Attempts are begun for what the slots take within this time, so that no slot waits for the ledger. A crash leaves
# each of them to the chain to resolve, so they are few, and one at least.
_AHEAD_S = 0.1
_AHEAD_MOST = 64
# An attempt is sent within this time or not at all: its lease must outlast the request (`SubmitPlan.lease_ms`).
_BEGUN_S = 30.0


class Slots:
    """The running requests, and the line of attempts for the next ones.

    `on_sent` gets each outcome, `on_refused` each attempt that its circuit does not admit.
    """

    def __init__(
        self,
        clock: Clock,
        most: int,
        freshness: Freshness,
        on_sent: Callable[[Post, Sent], None],
        on_refused: Callable[[Post], None],
        share: Callable[[], int] | None = None,
    ) -> None:
        """Start empty.

        Args:
            clock: monotonic time.
            most: the highest number of requests at a time.
            freshness: the rule for verdicts.
            on_sent: called right after a request.
            on_refused: called instead of a request that the circuit does not admit.
            share: returns how many of them this process may send now, beside others with the same API; None: `most`.
        """
        self._clock = clock
        self._limit = Limit(most)
        self._share = share
        self._freshness = freshness
        self._on_sent = on_sent
        self._on_refused = on_refused
        self._jobs = InFlight(most)
        self._ready: deque[Post] = deque()
        self._expired: list[Post] = []
        self._running = 0
        self._changed = asyncio.Event()

    @property
    def limit(self) -> int:
        """Return how many requests may run at a time now."""
        return self._limit.now if self._share is None else min(self._limit.now, self._share())

    @property
    def running(self) -> int:
        """Return how many requests are on their way."""
        return self._running

    def refill(self) -> None:
        """Send at once what a share that has risen allows."""
        self._fill()
        self._changed.set()

    @property
    def room(self) -> int:
        """Return how many attempts to begin now; 0 while at least half of those ahead are ready, or without a share.

        Raises the exception of a job that has failed.
        """
        _ = self._jobs.room  # raises the exception of a job that has failed
        ahead, limit = max(1, min(_AHEAD_MOST, self._limit.taken_within(_AHEAD_S))), self.limit
        if limit < 1 or len(self._ready) > ahead // 2:
            return 0
        return max(0, limit - self._running) + ahead - len(self._ready)

    def taken_within(self, seconds: float) -> int:
        """Return how many requests the slots begin within so many seconds."""
        return self._limit.taken_within(seconds)

    @property
    def apis_ready(self) -> Set[str]:
        """Return the names of the APIs to which a ready attempt goes."""
        return {post.draft.route.api for post in self._ready}

    def add(self, posts: Iterable[Post]) -> None:
        """Add begun attempts; free slots send them at once."""
        self._ready.extend(posts)
        self._fill()

    def take_expired(self) -> list[Post]:
        """Take the attempts that were not sent, because their verdict or their time had expired."""
        expired, self._expired = self._expired, []
        return expired

    def in_time(self, post: Post) -> bool:
        """Return True if the attempt's lease outlasts a request that begins now."""
        return self._clock.monotonic_s() - post.begun_s <= _BEGUN_S

    async def wait_for_room(self, timeout_s: float) -> None:
        """Wait until attempts may be begun or have expired, `timeout_s` at most."""
        self._changed.clear()
        if not self.room and not self._expired:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()

    def wake(self) -> None:
        """End `wait_for_room`."""
        self._changed.set()

    def take_ready(self) -> list[Post]:
        """Take every attempt that is not sent yet: the daemon stops."""
        unsent = [*self._ready, *self.take_expired()]
        self._ready.clear()
        return unsent

    async def drain(self) -> None:
        """Wait for the running requests. Raises the exception of a job that has failed."""
        await self._jobs.drain()

    def _fill(self) -> None:
        """Start a job for each free slot that has something to send."""
        for _ in range(min(self.limit - self._running, len(self._ready))):
            self._running += 1
            self._jobs.start(self._send_ready(), "send")

    async def _send_ready(self) -> None:
        """Send one ready attempt after the other, as long as there are any and the limit leaves this slot open."""
        try:
            while self._running <= self.limit and (post := self._next()) is not None:
                began_s = self._clock.monotonic_s()
                sent = await post.draft.route.sender.send(post.draft.request)
                full = self._running >= self.limit and bool(self._ready)
                self._limit.record(sent, began_s, self._clock.monotonic_s(), full=full)
                self._on_sent(post, sent)
                if self._ready:
                    self._fill()
        finally:
            self._running -= 1
            self._changed.set()

    def _next(self) -> Post | None:
        """Take the next attempt that may be sent now."""
        while self._ready:
            post = self._ready.popleft()
            if not self._freshness.holds(post.draft.cleared) or not self.in_time(post):
                self._expired.append(post)
                self._changed.set()
            elif not post.draft.route.circuit.admit():
                self._on_refused(post)
            else:
                if not self._changed.is_set() and self.room:
                    self._changed.set()
                return post
        return None
