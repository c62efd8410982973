"""The metrics for Prometheus: the three `eigen_` metrics of the AVS specification that apply here, and our own.

Invariants: label sets are fixed (states, services, outcomes, configured endpoints by their origin), never data of a
task; everything is counted as it happens or copied from the last evaluation, so that a scrape reads no database.
"""

import math
import platform
from collections import Counter as Count
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from watcher.chain.rpc.batch import Asked
from watcher.chain.rpc.member import EndpointSeen
from watcher.files import program_version
from watcher.health.conditions import CONDITION_KEYS
from watcher.health.hook_version import HookVersion
from watcher.health.readings import SERVICES
from watcher.health.replica_metrics import ReplicaMetrics
from watcher.health.root_metrics import RootMetrics
from watcher.health.shadow_observer import ShadowMetrics
from watcher.health.verdict import Health, Status
from watcher.ledger.stats import Moved, Work
from watcher.ledger.writer import Batch
from watcher.state import ENDED, State

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TASK_SECONDS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_VERBS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
API_OUTCOMES = ("accepted", "refused", "refuses_us", "not_sent", "unknown")
HOOK_OUTCOMES = ("answered", "skipped", "later", "failed", "no_worker")
# A node names its own version; versions beyond this number share one label.
_VERSIONS_LIMIT = 8
_OTHER = "other"
# The score covers the last tasks that were due for a response.
_SCORE_OVER = 100
# Ends of tasks that were over before this ledger was begun: no miss, and no success of others.
_ENDS_OF_HISTORY = (State.EXPIRED, State.RESPONDED_OTHER, State.FINAL_OTHER)
_COUNTED = {State.FINAL: 1, State.FINAL_OTHER: 0, State.EXPIRED: 0, State.FAILED: 0}


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as the reference page shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class Metrics:
    """All metrics, in a registry of their own. Not thread-safe."""

    def __init__(self, avs_name: str = "", services: Sequence[str] = tuple(SERVICES)) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.described: list[Described] = []
        self._avs = avs_name
        self._versions: dict[str, str] = {}
        self._versions_ever: set[str] = set()
        self._services = services
        self._recent: deque[int] = deque(maxlen=_SCORE_OVER)
        self._ended = dict.fromkeys(sorted(ENDED), 0)
        self._spec_metrics()
        self._state_metrics()
        self._outside_metrics()
        self.shadow = ShadowMetrics(self._counter, self._histogram)
        self.roots = RootMetrics(self._gauge)
        self._replicas = ReplicaMetrics(self._gauge)
        self._begin()

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        self.described.append(Described(name, "gauge", labels, meaning))
        return Gauge(name, meaning, labels, registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        self.described.append(Described(name, "counter", labels, meaning))
        return Counter(name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
        self.described.append(Described(name, "histogram", labels, meaning))
        return Histogram(name, meaning, labels, buckets=buckets, registry=self.registry)

    def _spec_metrics(self) -> None:
        self._score = self._gauge(
            "eigen_performance_score",
            f"Percentage of the last {_SCORE_OVER} tasks due for an answer that ended with ours. 100 at the start.",
            "avs_name",
        )
        self._eigen_seconds = self._histogram(
            "eigen_rpc_request_duration_seconds",
            "Time of a JSON-RPC batch, under each method in it.",
            _SECONDS,
            "avs_name",
            "method",
            "client_version",
        )
        self._eigen_total = self._counter(
            "eigen_rpc_request_total", "JSON-RPC calls.", "avs_name", "method", "client_version"
        )

    def _state_metrics(self) -> None:
        gauge = self._gauge
        self._build = gauge("avs_watcher_build_info", "1; the labels name the versions.", "version", "python")
        self.hook_version = HookVersion(gauge("avs_watcher_hook_info", "1; the label names its code.", "version"))
        self._ready = gauge("avs_watcher_ready", "1 while /readyz says 200.")
        self._up = gauge("avs_watcher_service_up", "1 while the service is up.", "service")
        self._condition = gauge("avs_watcher_trouble", "1 while the condition lasts; keys as in /readyz.", "key")
        self._evaluated = gauge("avs_watcher_judged_timestamp_seconds", "Unix time of the last evaluation.")
        self._tasks = gauge(
            "avs_watcher_tasks", "Tasks in the ledger by state, without those that expired before it.", "state"
        )
        self._transitions = self._counter(
            "avs_watcher_task_moves_total",
            "Transitions of tasks by the state entered, without the ends of tasks that were over before the ledger.",
            "state",
        )
        self._head = gauge("avs_watcher_head_block", "The highest block any node has shown.")
        self._cursor = gauge("avs_watcher_cursor_block", "The block up to which the ledger has read the chain.")
        self._final = gauge("avs_watcher_final_block", "The newest block that counts as final.")
        self._lag = gauge("avs_watcher_lag_blocks", "Blocks between cursor and head.")
        self._head_age = gauge(
            "avs_watcher_head_age_seconds", "Time since the head last moved, as this process saw it."
        )
        self._left = gauge(
            "avs_watcher_nearest_deadline_blocks",
            "Blocks left to the nearest deadline of an unanswered task. NaN when there is none.",
        )
        self._seconds_left = gauge(
            "avs_watcher_nearest_deadline_seconds",
            "Seconds left to the nearest deadline that is a time, of an unanswered task. NaN when there is none.",
        )
        self._endangered = gauge("avs_watcher_tasks_in_danger", "Unanswered tasks close to their deadline.")
        self._queue_age = gauge(
            "avs_watcher_queue_age_seconds", "Age of the oldest task that waits for a run or a POST."
        )
        self._beat = gauge("avs_watcher_stage_beat_age_seconds", "Time since the last step of the stage.", "stage")
        self._broken = gauge("avs_watcher_finality_broken", "1 if a final block has ever changed.")

    def _outside_metrics(self) -> None:
        histogram, counter = self._histogram, self._counter
        self._to_post = histogram(
            "avs_watcher_post_delay_seconds", "From seeing a task to its first POST.", _TASK_SECONDS
        )
        self._to_answer = histogram(
            "avs_watcher_response_delay_seconds", "From seeing a task to seeing our answer on the chain.", _TASK_SECONDS
        )
        self._api = counter("avs_watcher_api_requests_total", "Requests to the operator's API.", "outcome")
        self._api_seconds = histogram("avs_watcher_api_request_duration_seconds", "Time of a request.", _SECONDS)
        self._hook = counter("avs_watcher_hook_runs_total", "Runs of the hook.", "outcome")
        self._hook_seconds = histogram("avs_watcher_hook_duration_seconds", "Time of a run and its wait.", _SECONDS)
        self._rpc = counter("avs_watcher_rpc_batches_total", "Batches sent to a node.", "endpoint", "outcome")
        self._rpc_seconds = histogram(
            "avs_watcher_rpc_batch_duration_seconds", "Time of a batch.", _SECONDS, "endpoint"
        )
        self._endpoint = self._gauge("avs_watcher_endpoint_up", "1 while the node is in use.", "endpoint")
        self._commit = histogram("avs_watcher_ledger_commit_duration_seconds", "Time of a ledger commit.", _SECONDS)
        self._verbs = histogram("avs_watcher_ledger_commit_writes", "Writes that shared one commit.", _VERBS)
        self._store_failures = counter("avs_watcher_ledger_failures_total", "Commits that failed.")

    def _begin(self) -> None:
        """Create every known series: one that is there from the start shows its first increment to rules."""
        self._own_score = self._score.labels(self._avs)
        self._own_score.set(100)
        self._build.labels(program_version(), platform.python_version()).set(1)
        self._left.set(math.nan)
        self._seconds_left.set(math.nan)
        # Looking a series up by its labels costs more than counting: those of each task are kept.
        self._api_by_outcome = {outcome: self._api.labels(outcome) for outcome in API_OUTCOMES}
        self._hook_by_outcome = {outcome: self._hook.labels(outcome) for outcome in HOOK_OUTCOMES}
        self._entered = {state: self._transitions.labels(state) for state in State}
        for state in State:
            self._tasks.labels(state)
        for key in CONDITION_KEYS:
            self._condition.labels(key)
        for service in self._services:
            self._up.labels(service)

    # -- counted as it happens -----------------------------------------------------------------------------------------

    def named(self, endpoint: str, client_version: str) -> None:
        """Record the software that a node reports (web3_clientVersion)."""
        if client_version not in self._versions_ever and len(self._versions_ever) >= _VERSIONS_LIMIT:
            client_version = _OTHER  # a series lives as long as the process
        else:
            self._versions_ever.add(client_version)
        self._versions[endpoint] = client_version or "unknown"

    def asked(self, asked: Asked) -> None:
        """Record a batch sent to a node."""
        client_version = self._versions.get(asked.endpoint, "unknown")
        for method, calls in Count(asked.methods).items():
            self._eigen_total.labels(self._avs, method, client_version).inc(calls)
            self._eigen_seconds.labels(self._avs, method, client_version).observe(asked.seconds)
        self._rpc.labels(asked.endpoint, "ok" if asked.ok else "failed").inc()
        self._rpc_seconds.labels(asked.endpoint).observe(asked.seconds)

    def sent(self, outcome: str, seconds: float) -> None:
        """Record a request to the API; `outcome` is one of API_OUTCOMES."""
        self._api_by_outcome[outcome].inc()
        self._api_seconds.observe(seconds)

    def hook_ran(self, outcome: str, seconds: float) -> None:
        """Record a run of the hook; `outcome` is one of HOOK_OUTCOMES."""
        self._hook_by_outcome[outcome].inc()
        self._hook_seconds.observe(seconds)

    def committed(self, batch: Batch) -> None:
        """Record a commit of the ledger, or that it failed."""
        if batch.condition is not None:
            self._store_failures.inc()
            return
        self._commit.observe(batch.seconds)
        self._verbs.observe(batch.verbs)

    def moved(self, transitions: Sequence[Moved]) -> None:
        """Record transitions of tasks."""
        entered: Count[State] = Count()
        was_due = False
        for move in transitions:
            to_state = move.to_state
            if move.is_history and to_state in _ENDS_OF_HISTORY:
                self._ended[State.FINAL_OTHER] += to_state is State.FINAL_OTHER
                continue
            entered[to_state] += 1
            if to_state in self._ended:
                self._ended[to_state] += 1
            if move.from_state in self._ended:
                self._ended[move.from_state] = max(0, self._ended[move.from_state] - 1)
            if to_state is State.SENDING and move.number == 1:
                self._to_post.observe(_delay_s(move))
            elif to_state is State.RESPONDED:
                self._to_answer.observe(_delay_s(move))
            if to_state in _COUNTED:
                self._recent.append(_COUNTED[to_state])
                was_due = True
        for state, count in entered.items():
            self._entered[state].inc(count)
        if was_due:
            self._own_score.set(100 * sum(self._recent) / len(self._recent))

    # -- copied from the last evaluation -------------------------------------------------------------------------------

    def counted(self, ended: Mapping[State, int]) -> None:
        """Set the number of tasks in each end state, over the whole ledger."""
        self._ended = {state: ended.get(state, 0) for state in self._ended}

    def evaluated(
        self,
        health: Health,
        work: Work | None,
        beats: Mapping[str, float],
        nodes: Sequence[EndpointSeen],
        head_age_s: float,
    ) -> None:
        """Copy an evaluation and its observations.

        Args:
            health: the evaluation.
            work: the last measure of the ledger, None before the first.
            beats: seconds since the last step, by stage.
            nodes: the nodes.
            head_age_s: seconds since the head last moved.
        """
        self._evaluated.set(health.at_ms / 1000)
        self._ready.set(health.ready)
        self._replicas.evaluated(health.replica)
        for service in health.services:
            self._up.labels(service.id).set(service.status is Status.UP)
        wrong = {condition.key for condition in health.conditions}
        for key in CONDITION_KEYS:
            self._condition.labels(key).set(key in wrong)
        for stage, age_s in beats.items():
            self._beat.labels(stage).set(age_s)
        for endpoint in nodes:
            self._endpoint.labels(endpoint.name).set(endpoint.reason is None and endpoint.served_s is not None)
        self._head_age.set(head_age_s)
        if work is not None and health.work is not None:
            self._work(health, work)

    def finality_broken(self) -> None:
        """Record that a final block has changed."""
        self._broken.set(1)

    def _work(self, health: Health, work: Work) -> None:
        cursor = work.cursor
        self._head.set(cursor.head_block)
        self._cursor.set(cursor.block)
        self._final.set(cursor.final_block)
        self._lag.set(max(0, cursor.head_block - cursor.block))
        left = health.blocks_left
        self._left.set(math.nan if left is None else left)
        seconds_left = health.seconds_left
        self._seconds_left.set(math.nan if seconds_left is None else seconds_left)
        self._endangered.set(work.endangered + work.endangered_by_time)
        oldest = work.oldest_seen_ms
        self._queue_age.set(0 if oldest is None else max(0, health.at_ms - oldest) / 1000)
        for state in State:
            count = self._ended[state] if state in self._ended else work.open_by_state.get(state, 0)
            self._tasks.labels(state).set(count)


def _delay_s(move: Moved) -> float:
    """Return the seconds from seeing the task to its transition."""
    return max(0, move.at_ms - move.seen_at_ms) / 1000
