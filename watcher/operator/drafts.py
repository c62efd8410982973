"""The requests for cleared tasks: the API that each goes to, by the rules of `route.py`, and its bytes."""

from collections.abc import Collection

from watcher.clock import Clock
from watcher.errors import Quarantine
from watcher.ledger import queries
from watcher.ledger.claims import Release, RetryAt
from watcher.ledger.store import Ledger
from watcher.operator.log_once import LogOnce
from watcher.operator.pacing import LeftS, SubmitPlan
from watcher.operator.post import Cleared, Draft
from watcher.operator.route import HELD_MARK, Hold, Parked, Quorums, Route, Router, choose, is_untried

# The quorums that the proxy has served: read from this many tasks, this often.
_SERVED_TASKS = 1000
_SERVED_EVERY_S = 60.0


class Drafts:
    """The maker of requests. `router` holds the APIs, and what is known of their health."""

    def __init__(
        self, router: Router, ledger: Ledger, clock: Clock, log_once: LogOnce, plan: SubmitPlan, left_s: LeftS
    ) -> None:
        """Take the parts.

        Args:
            router: the APIs, and the rules between them.
            ledger: shows which quorums the proxy has served.
            clock: monotonic time.
            log_once: logs tasks that no API serves.
            plan: the pauses.
            left_s: the seconds a task has left behind a block; None: no deadline.
        """
        self.router = router
        self._ledger = ledger
        self._clock = clock
        self._log_once = log_once
        self._plan = plan
        self._left_s = left_s
        self._served: set[Quorums] = set()
        self._served_at_s = 0.0

    def follow(self, plan: SubmitPlan, router: Router) -> None:
        """Use new settings for the next requests."""
        self._plan, self.router = plan, router
        self._served_at_s = 0.0

    async def read_served(self) -> None:
        """Read from the ledger the quorums that the proxy has served, if the settings do not name them."""
        now_s = self._clock.monotonic_s()
        if not self.router.learns or now_s < self._served_at_s:
            return
        self._served = await self._ledger.read(
            queries.brought_by, self._ledger.source_id, self.router.main.api, _SERVED_TASKS
        )
        self._served_at_s = now_s + (_SERVED_EVERY_S if self._served else self._plan.idle_s)

    def draft(self, cleared: Cleared, probing: Collection[str]) -> Draft | Release:
        """Return the request for a task, or its release if no API takes it now.

        `probing` names the APIs to which a request is about to go, so that an API that refused gets one at a time.
        """
        task = cleared.task.task
        match choose(task, self.router, self._served, probing):
            case Route() as route:
                if route is self.router.main and is_untried(task, self.router, self._served):
                    self._log_once.untried_quorums(task)
                return self._built(cleared, route)
            case Parked(reason):
                self._log_once.parked(task, reason)
                return self._put_off(cleared, self._plan.retry_max_s, reason)
            case Hold(after_s):
                reason = f"{HELD_MARK}the API refuses requests or cannot be reached"
                return self._put_off(cleared, min(after_s, self._plan.retry_max_s), reason)

    def _built(self, cleared: Cleared, route: Route) -> Draft | Release:
        task = cleared.task
        try:
            request = route.build(task, task.attempts + 1)
        except Quarantine as error:
            self._log_once.request_invalid(task.task, str(error))
            return self._put_off(cleared, self._plan.retry_max_s, str(error))
        return Draft(cleared, route, request, self._left_s(task.task, cleared.at))

    def _put_off(self, cleared: Cleared, pause_s: float, reason: str) -> Release:
        """Return the release of a task for `pause_s` seconds, or less if its deadline is near."""
        pause_s = self._plan.within_s(pause_s, self._left_s(cleared.task.task, cleared.at))
        return Release(cleared.task, RetryAt(int(pause_s * 1000)), reason)
