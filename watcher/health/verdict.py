"""The evaluation of the watcher's health: one `Health` for /readyz, the Node API, metrics, the STATUS line and alerts.

Pure: `evaluate(observations, limits, before)` reads no clock and changes nothing, so that it is tested case by case.
`watcher.health.monitor.Monitor` makes the observations every second and hands each new `Health` to its listeners.

`Health.conditions` is everything that is wrong now. A `Condition` has a `key` of `watcher.health.conditions`, a message
for a person, and `since_ms`, which stays the same while it lasts. Incidents of single tasks (expired, answered by
somebody else) are no state of the watcher: they come from `Monitor.on_move`.
"""

from dataclasses import dataclass
from enum import StrEnum

from watcher.health.conditions import API, HOOK, ROOTS, RPC, SHADOW, STORE, WARNINGS, WATCH
from watcher.health.node_conditions import conditions_of_nodes
from watcher.health.readings import SERVICES, ApiSeen, HookSeen, Limits, Observations, ReplicaSeen, WorkSeen
from watcher.health.task_conditions import conditions_of_tasks

# Without these nothing works; without another one, part of the work goes on.
_VITAL = frozenset({RPC, STORE, WATCH})

_REASON_LIMIT_CHARS = 300
# One failure happens; several in a row, with no success between them, are a state.
_IN_A_ROW = 2
# A hook that failed its last tasks long ago, and has had no task since, is no condition of now.
_HOOK_MEMORY_S = 300.0
_WAITING_S = 15.0
_STALLED_S = 60.0
# A stage that waited for a service takes this long at most to notice that the service is back.
_JUST_BACK_S = 20.0
# How much longer than the longest silence before a silence of the hook may last.
_LONGER = 1.5
_FAR_BEHIND_BLOCKS = 20


class Status(StrEnum):
    """The status of a service, in the terms of the Node API."""

    UP = "Up"
    INITIALIZING = "Initializing"
    DOWN = "Down"


@dataclass(frozen=True, slots=True)
class Service:
    """A backing service. `since_ms` is when its status began; `message` says why it is not up, or how it is."""

    id: str
    status: Status
    message: str
    since_ms: int

    @property
    def name(self) -> str:
        return SERVICES[self.id][0]

    @property
    def description(self) -> str:
        return SERVICES[self.id][1]


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now. `key` is one of CONDITION_KEYS."""

    key: str
    message: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Health:
    """An evaluation. `work` is the last measure of the ledger, None before the first; `replica` as in Observations."""

    at_ms: int
    services: tuple[Service, ...] = ()
    conditions: tuple[Condition, ...] = ()
    work: WorkSeen | None = None
    replica: ReplicaSeen | None = None

    @property
    def status(self) -> Status:
        """UP when nothing is wrong, DOWN when nothing works, else INITIALIZING (the Node API's "partially healthy")."""
        if any(service.status is Status.DOWN and service.id in _VITAL for service in self.services):
            return Status.DOWN
        all_up = self.services and all(service.status is Status.UP for service in self.services)
        is_wrong = any(condition.key not in WARNINGS for condition in self.conditions)
        return Status.UP if all_up and not is_wrong else Status.INITIALIZING

    @property
    def ready(self) -> bool:
        return self.status is Status.UP

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the watcher is not ready, one line each."""
        starting = (service for service in self.services if service.status is Status.INITIALIZING)
        lines = [f"{condition.key}: {condition.message}" for condition in self.conditions]
        lines += [f"{service.id}: {service.message}" for service in starting]
        return tuple(lines) or (() if self.services else ("starting",))

    @property
    def blocks_left(self) -> int | None:
        """Blocks to the nearest deadline of an unanswered task; negative once it is past."""
        return None if self.work is None else self.work.blocks_left

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the nearest deadline that is a time, of an unanswered task."""
        return None if self.work is None else self.work.seconds_left

    def service(self, service_id: str) -> Service | None:
        return next((service for service in self.services if service.id == service_id), None)

    def condition(self, key: str) -> Condition | None:
        return next((condition for condition in self.conditions if condition.key == key), None)


def evaluate(seen: Observations, limits: Limits, before: Health | None = None) -> Health:
    """Return the health that the observations show.

    Args:
        seen: the observations.
        limits: the limits of normal.
        before: the evaluation before, which gives the `since_ms` of what lasts.
    """
    statuses = {RPC: _node(seen, limits)}
    if seen.api is not None:
        statuses[API] = _api(seen.api)
    if seen.hook is not None:
        statuses[HOOK] = _hook(seen.hook, limits, before)
    statuses[STORE] = _store(seen, limits)
    explained = any(_explains(name, status, seen.at_ms, before) for name, (status, _) in statuses.items())
    statuses[WATCH] = _watch(seen, limits, explained=explained)
    services = tuple(_service(name, *status, seen.at_ms, before) for name, status in statuses.items())
    messages = {service.id: service.message for service in services if service.status is Status.DOWN}
    messages |= {SHADOW: seen.shadow} if seen.shadow else {}
    messages |= {ROOTS: seen.roots} if seen.roots else {}
    messages |= conditions_of_tasks(seen, limits) | conditions_of_nodes(seen, limits, _in_sight_s(seen, before))
    conditions = tuple(_condition(key, message, seen.at_ms, before) for key, message in messages.items())
    return Health(seen.at_ms, services, conditions, seen.work, seen.replica)


_Judged = tuple[Status, str]


def _node(seen: Observations, limits: Limits) -> _Judged:
    node = seen.node
    if node.answered_ago_s is None:
        return (Status.DOWN, node.reason) if node.reason else (Status.INITIALIZING, "no node was asked yet")
    if node.answered_ago_s > limits.quiet_node_s:
        return Status.DOWN, f"no good answer for {node.answered_ago_s:.0f} s" + _because(node.reason)
    return Status.UP, "answers" if node.head_block is None else f"at block {node.head_block}"


def _api(api: ApiSeen) -> _Judged:
    if api.refuses:
        return Status.DOWN, "refuses us" + _because(api.reason)
    if api.failures >= _IN_A_ROW:
        return Status.DOWN, f"{api.failures} requests in a row failed" + _because(api.reason)
    return Status.UP, "takes our requests" if api.used else "nothing was to be sent yet"


def _hook(hook: HookSeen, limits: Limits, before: Health | None) -> _Judged:
    if not hook.workers:
        return Status.DOWN, "no worker can be started" + _because(hook.reason)
    is_recent = hook.failed_ago_s < _HOOK_MEMORY_S or hook.waiting
    if hook.failures >= _IN_A_ROW and is_recent:
        return Status.DOWN, f"the last {hook.failures} runs failed" + _because(hook.reason)
    if hook.silent_s > max(limits.silent_hook_s, _LONGER * hook.longest_s):
        return Status.DOWN, f"no result for {hook.silent_s:.0f} s"
    # Neither a run that was ended nor the next one that begins is a result.
    if hook.failures and is_recent and _was_down(HOOK, before):
        return Status.DOWN, "the last run failed" + _because(hook.reason)
    return Status.UP, "answers" if not hook.failures else "the last run failed" + _because(hook.reason)


def _store(seen: Observations, limits: Limits) -> _Judged:
    if seen.store.condition is not None:
        return Status.DOWN, seen.store.condition[:_REASON_LIMIT_CHARS]
    if seen.store.waits_s > limits.slow_store_s:
        return Status.DOWN, f"a write has been waiting for {seen.store.waits_s:.0f} s"
    if seen.work is None:
        return Status.INITIALIZING, "not read yet"
    return Status.UP, "takes writes"


def _watch(seen: Observations, limits: Limits, *, explained: bool) -> _Judged:
    """Judge the stages. A wait that a service explains is not reported a second time."""
    stuck = [stage for stage in seen.stages if stage.beat_ago_s > limits.stuck_s]
    if stuck:
        worst = max(stuck, key=lambda stage: stage.beat_ago_s)
        return Status.DOWN, f"stage {worst.name} has made no step for {worst.beat_ago_s:.0f} s"
    if not seen.started or seen.work is None:
        return Status.INITIALIZING, "starting"
    waiting = [stage for stage in seen.stages if stage.condition and stage.waiting_s >= _WAITING_S]
    if waiting and not explained:
        worst = max(waiting, key=lambda stage: stage.waiting_s)
        reason = _because(worst.condition or "")
        return Status.DOWN, f"stage {worst.name} has been waiting for {worst.waiting_s:.0f} s{reason}"
    work = seen.work
    if not explained and min(work.overdue_s, work.moved_ago_s) > _STALLED_S:
        return Status.DOWN, f"tasks wait and none has moved for {work.moved_ago_s:.0f} s"
    if work.lag_blocks > _FAR_BEHIND_BLOCKS:
        return Status.INITIALIZING, f"{work.lag_blocks} blocks behind, catching up"
    return Status.UP, f"block {work.cursor_block}"


def _in_sight_s(seen: Observations, before: Health | None) -> float | None:
    """Return for how long nodes have answered without a break, None before the first evaluation."""
    previous = before.service(RPC) if before is not None else None
    if previous is None:
        return None
    return (seen.at_ms - previous.since_ms) / 1000 if previous.status is Status.UP else 0.0


def _was_down(name: str, before: Health | None) -> bool:
    previous = before.service(name) if before is not None else None
    return previous is not None and previous.status is Status.DOWN


def _explains(name: str, status: Status, at_ms: int, before: Health | None) -> bool:
    """Return True if a stage may be waiting for this service: it is down, or was a moment ago."""
    if status is Status.DOWN or _was_down(name, before):
        return True
    previous = before.service(name) if before is not None else None
    return previous is not None and at_ms - previous.since_ms < _JUST_BACK_S * 1000


def _service(name: str, status: Status, message: str, at_ms: int, before: Health | None) -> Service:
    previous = before.service(name) if before is not None else None
    since_ms = previous.since_ms if previous is not None and previous.status is status else at_ms
    return Service(name, status, message, since_ms)


def _condition(key: str, message: str, at_ms: int, before: Health | None) -> Condition:
    previous = before.condition(key) if before is not None else None
    return Condition(key, message, at_ms if previous is None else previous.since_ms)


def _because(reason: str) -> str:
    return f" ({reason[:_REASON_LIMIT_CHARS]})" if reason else ""
