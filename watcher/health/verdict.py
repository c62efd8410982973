"""What is true about the watcher now: one judgement, told alike by /readyz, the Node API, the metrics, the STATUS line
and the alerts.

Pure: `evaluate(observations, limits, before)` reads no clock and touches nothing, so that it is tested case by case.
`watcher.health.monitor.Monitor` makes the observations every second and hands each new `Health` to its listeners.

For alerts: `Health.conditions` is everything that is wrong now. A `Condition` has a fixed `key` (one of `TROUBLES`),
`words` for a person and `since_ms`, which stays the same while the trouble lasts: raise an alert when a key appears,
send the recovery when it is gone. What happened to single tasks (expired, answered by somebody else) is no state of
the watcher: it comes from the `on_move` of `Monitor`.
"""

from dataclasses import dataclass
from enum import StrEnum

from watcher.health.agreement import evidence_dangers
from watcher.health.readings import (
    API,
    DESCRIPTIONS,
    FINALITY_BEHIND,
    HOOK,
    NODE_BEHIND,
    RPC,
    STORE,
    WARNINGS,
    WATCH,
    ApiSeen,
    HookSeen,
    Limits,
    Observations,
    WorkSeen,
)
from watcher.health.task_conditions import conditions_of_tasks

# Without these nothing works; without another one, part of the work goes on.
_VITAL = frozenset({RPC, STORE, WATCH})

_WORDS_LIMIT_CHARS = 300
# One failure happens; several in a row, with nothing good between them, are a state.
_IN_A_ROW = 2
# A hook that failed its last tasks long ago, with nothing for it to do since, is no trouble of now.
_HOOK_MEMORY_S = 300.0
_TROUBLED_S = 15.0
_STALLED_S = 60.0
# A stage that waited for a service takes so long at most to notice that the service is back.
_JUST_BACK_S = 20.0
# How much longer than ever before a silence of the hook may last.
_LONGER = 1.5
_FAR_BEHIND_BLOCKS = 20


class Status(StrEnum):
    """How a service stands, in the words of the Node API."""

    UP = "Up"
    INITIALIZING = "Initializing"
    DOWN = "Down"


@dataclass(frozen=True, slots=True)
class Service:
    """One backing service. `since_ms` is when it began to stand so; `words` say why it is not up, or how it is."""

    id: str
    status: Status
    words: str
    since_ms: int

    @property
    def name(self) -> str:
        return DESCRIPTIONS[self.id][0]

    @property
    def description(self) -> str:
        return DESCRIPTIONS[self.id][1]


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now. `key` is one of TROUBLES."""

    key: str
    words: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Health:
    """The judgement. `work` is what the ledger said last, None before the first reading."""

    at_ms: int
    services: tuple[Service, ...] = ()
    conditions: tuple[Condition, ...] = ()
    work: WorkSeen | None = None

    @property
    def status(self) -> Status:
        """UP when nothing is wrong, DOWN when nothing works, else INITIALIZING (the Node API's "partially healthy")."""
        if any(one.status is Status.DOWN and one.id in _VITAL for one in self.services):
            return Status.DOWN
        fine = self.services and all(one.status is Status.UP for one in self.services)
        wrong = any(one.key not in WARNINGS for one in self.conditions)
        return Status.UP if fine and not wrong else Status.INITIALIZING

    @property
    def ready(self) -> bool:
        return self.status is Status.UP

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not ready, one line each, for a person."""
        waiting = (one for one in self.services if one.status is Status.INITIALIZING)
        lines = [f"{one.key}: {one.words}" for one in self.conditions]
        return (*lines, *(f"{one.id}: {one.words}" for one in waiting)) or (() if self.services else ("starting",))

    @property
    def blocks_left(self) -> int | None:
        """Blocks to the nearest deadline of a task that is not answered yet; negative once it is past."""
        return None if self.work is None else self.work.blocks_left

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the nearest deadline that is a time, of a task that is not answered yet."""
        return None if self.work is None else self.work.seconds_left

    def service(self, wanted: str) -> Service | None:
        return next((one for one in self.services if one.id == wanted), None)

    def condition(self, key: str) -> Condition | None:
        return next((one for one in self.conditions if one.key == key), None)


def evaluate(seen: Observations, limits: Limits, before: Health | None = None) -> Health:
    """What is true, given what was seen and what was true before (which only decides the `since`)."""
    found = {RPC: _node(seen, limits)}
    if seen.api is not None:
        found[API] = _api(seen.api)
    if seen.hook is not None:
        found[HOOK] = _hook(seen.hook, limits, before)
    found[STORE] = _store(seen, limits)
    explained = any(_explains(one, status, seen.at_ms, before) for one, (status, _) in found.items())
    found[WATCH] = _watch(seen, limits, explained=explained)
    services = tuple(_service(one, *what, seen.at_ms, before) for one, what in found.items())
    wrong = {one.id: one.words for one in services if one.status is Status.DOWN} | _dangers(seen, limits, before)
    conditions = tuple(_trouble(key, words, seen.at_ms, before) for key, words in wrong.items())
    return Health(seen.at_ms, services, conditions, seen.work)


_Found = tuple[Status, str]


def _node(seen: Observations, limits: Limits) -> _Found:
    node = seen.node
    if node.answered_ago_s is None:
        return (Status.DOWN, node.words) if node.words else (Status.INITIALIZING, "no node was asked yet")
    if node.answered_ago_s > limits.quiet_node_s:
        return Status.DOWN, f"no good answer for {node.answered_ago_s:.0f} s" + _because(node.words)
    return Status.UP, "answers" if node.head_block is None else f"at block {node.head_block}"


def _api(api: ApiSeen) -> _Found:
    if api.refuses:
        return Status.DOWN, "refuses us" + _because(api.words)
    if api.failures >= _IN_A_ROW:
        return Status.DOWN, f"{api.failures} requests in a row failed" + _because(api.words)
    return Status.UP, "takes our requests" if api.used else "nothing was to be sent yet"


def _hook(hook: HookSeen, limits: Limits, before: Health | None) -> _Found:
    if not hook.workers:
        return Status.DOWN, "no worker can be started" + _because(hook.words)
    recent = hook.failed_ago_s < _HOOK_MEMORY_S or hook.waiting
    if hook.failures >= _IN_A_ROW and recent:
        return Status.DOWN, f"the last {hook.failures} runs failed" + _because(hook.words)
    if hook.silent_s > max(limits.silent_hook_s, _LONGER * hook.longest_s):
        return Status.DOWN, f"nothing has come from it for {hook.silent_s:.0f} s"
    # Neither a run that was ended nor the next one that begins is an answer.
    if hook.failures and recent and _was_down(HOOK, before):
        return Status.DOWN, "the last run failed" + _because(hook.words)
    return Status.UP, "answers" if not hook.failures else "the last run failed" + _because(hook.words)


def _store(seen: Observations, limits: Limits) -> _Found:
    if seen.store.condition is not None:
        return Status.DOWN, seen.store.condition[:_WORDS_LIMIT_CHARS]
    if seen.store.waits_s > limits.slow_store_s:
        return Status.DOWN, f"a write has been waiting for {seen.store.waits_s:.0f} s"
    if seen.work is None:
        return Status.INITIALIZING, "not read yet"
    return Status.UP, "takes writes"


def _watch(seen: Observations, limits: Limits, *, explained: bool) -> _Found:
    """Our own part. What a service that is down already explains is not told a second time."""
    stuck = [one for one in seen.stages if one.beat_ago_s > limits.stuck_s]
    if stuck:
        worst = max(stuck, key=lambda one: one.beat_ago_s)
        return Status.DOWN, f"stage {worst.name} has not come round for {worst.beat_ago_s:.0f} s"
    if not seen.started or seen.work is None:
        return Status.INITIALIZING, "starting"
    troubled = [one for one in seen.stages if one.condition and one.troubled_s >= _TROUBLED_S]
    if troubled and not explained:
        worst = max(troubled, key=lambda one: one.troubled_s)
        return Status.DOWN, f"stage {worst.name} has been waiting for {worst.troubled_s:.0f} s" + _because(
            worst.condition or ""
        )
    work = seen.work
    if not explained and min(work.overdue_s, work.moved_ago_s) > _STALLED_S:
        return Status.DOWN, f"tasks wait and none has moved for {work.moved_ago_s:.0f} s"
    if work.lag_blocks > _FAR_BEHIND_BLOCKS:
        return Status.INITIALIZING, f"{work.lag_blocks} blocks behind, catching up"
    return Status.UP, f"block {work.cursor_block}"


def _dangers(seen: Observations, limits: Limits, before: Health | None) -> dict[str, str]:
    """Besides the services: deadlines about to be missed, nodes that answer but have fallen behind, no finality."""
    wrong, work, node = conditions_of_tasks(seen, limits), seen.work, seen.node
    quiet = node.answered_ago_s is None or node.answered_ago_s > limits.quiet_node_s
    if not quiet:
        wrong |= evidence_dangers(node, limits)
    if quiet or work is None or node.head_block is None:
        return wrong
    if node.head_block < work.head_block:
        wrong[NODE_BEHIND] = f"the nodes show block {node.head_block}, one of them had shown {work.head_block} before"
    elif node.usual_interval_s and _watched_s(node.head_moved_ago_s, seen, before) > max(
        _STALLED_S, 10 * node.usual_interval_s
    ):
        wrong[NODE_BEHIND] = (
            f"no new block for {node.head_moved_ago_s:.0f} s; one comes every {node.usual_interval_s:.0f} s usually"
        )
    if _watched_s(node.final_left_behind_s, seen, before) > limits.slow_finality_s:
        minutes = node.final_left_behind_s / 60
        wrong[FINALITY_BEHIND] = f"no block has become final for {minutes:.0f} minutes, the last is {work.final_block}"
    return wrong


def _watched_s(age_s: float, seen: Observations, before: Health | None) -> float:
    """How much of an age was seen to pass: while no node answered, nobody saw what the chain did."""
    was = before.service(RPC) if before is not None else None
    if was is None:
        return age_s
    in_sight_s = (seen.at_ms - was.since_ms) / 1000 if was.status is Status.UP else 0.0
    return min(age_s, in_sight_s)


def _was_down(one: str, before: Health | None) -> bool:
    was = before.service(one) if before is not None else None
    return was is not None and was.status is Status.DOWN


def _explains(one: str, status: Status, at_ms: int, before: Health | None) -> bool:
    """Whether a stage may be waiting for this service: it is down, or was a moment ago."""
    if status is Status.DOWN or _was_down(one, before):
        return True
    was = before.service(one) if before is not None else None
    return was is not None and at_ms - was.since_ms < _JUST_BACK_S * 1000


def _service(one: str, status: Status, words: str, at_ms: int, before: Health | None) -> Service:
    was = before.service(one) if before is not None else None
    since_ms = was.since_ms if was is not None and was.status is status else at_ms
    return Service(one, status, words, since_ms)


def _trouble(key: str, words: str, at_ms: int, before: Health | None) -> Condition:
    was = before.condition(key) if before is not None else None
    return Condition(key, words, at_ms if was is None else was.since_ms)


def _because(words: str) -> str:
    return f" ({words[:_WORDS_LIMIT_CHARS]})" if words else ""
