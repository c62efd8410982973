"""What Prometheus scrapes: the three `eigen_` metrics of the AVS specification that mean something here, and our own.

Invariants: label sets are fixed (states, services, our own words, configured endpoints by their origin), never data of
a task; everything is counted as it happens or copied from the last judgement, so that a scrape reads no database.
"""

import math
import platform
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from watcher.chain.rpc.batch import Asked
from watcher.chain.rpc.member import EndpointSeen
from watcher.files import program_version
from watcher.health.process_metrics import OwnProcess
from watcher.health.readings import DESCRIPTIONS, TROUBLES
from watcher.health.verdict import Health, Status
from watcher.ledger.stats import Moved, Work
from watcher.ledger.writer import Batch
from watcher.state import ENDED, State

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TASK_SECONDS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_VERBS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
API_OUTCOMES = ("accepted", "refused", "refuses_us", "not_sent", "unknown")
HOOK_OUTCOMES = ("answered", "skipped", "later", "failed", "no_worker")
# A node names its own version; more different ones than this are one.
_VERSIONS_LIMIT = 8
_OTHER = "other"
# The score speaks of the last tasks that an answer was due for.
_SCORE_OVER = 100
_COUNTED = {State.FINAL: 1, State.FINAL_OTHER: 0, State.EXPIRED: 0, State.FAILED: 0}


@dataclass(frozen=True, slots=True)
class Described:
    """One metric as the reference page shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    words: str


class Metrics:
    """All of them, in a registry of their own. Not for use from several threads."""

    def __init__(self, avs_name: str = "", services: Sequence[str] = tuple(DESCRIPTIONS)) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.described: list[Described] = []
        self._avs = avs_name
        self._versions: dict[str, str] = {}
        self._versions_ever: set[str] = set()
        self._services = services
        self._lately: deque[int] = deque(maxlen=_SCORE_OVER)
        self._ended = dict.fromkeys(sorted(ENDED), 0)
        self._spec_metrics()
        self._state_metrics()
        self._outside_metrics()
        self._begin()
        OwnProcess(self.registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        self.described.append(Described(name, "gauge", labels, words))
        return Gauge(name, words, labels, registry=self.registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        self.described.append(Described(name, "counter", labels, words))
        return Counter(name, words, labels, registry=self.registry)

    def _histogram(self, name: str, words: str, buckets: Sequence[float], *labels: str) -> Histogram:
        self.described.append(Described(name, "histogram", labels, words))
        return Histogram(name, words, labels, buckets=buckets, registry=self.registry)

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
        self._build = gauge("avs_watcher_build_info", "1; the labels say what runs.", "version", "python")
        self._ready = gauge("avs_watcher_ready", "1 while /readyz says 200.")
        self._up = gauge("avs_watcher_service_up", "1 while the service is up.", "service")
        self._trouble = gauge("avs_watcher_trouble", "1 while this is wrong; keys as in /readyz.", "key")
        self._judged = gauge("avs_watcher_judged_timestamp_seconds", "When all this was last judged, Unix time.")
        self._tasks = gauge("avs_watcher_tasks", "Tasks in the ledger by state.", "state")
        self._moves = self._counter("avs_watcher_task_moves_total", "Moves of tasks, by the state entered.", "state")
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
        self._queue_age = gauge("avs_watcher_queue_age_seconds", "Age of the oldest task that waits for hook or POST.")
        self._beat = gauge("avs_watcher_stage_beat_age_seconds", "Time since the stage last came round.", "stage")
        self._broken = gauge("avs_watcher_finality_broken", "1 when a final block was ever seen to change.")

    def _outside_metrics(self) -> None:
        histogram, counter = self._histogram, self._counter
        self._to_post = histogram(
            "avs_watcher_post_delay_seconds", "From seeing a task to its first POST.", _TASK_SECONDS
        )
        self._to_answer = histogram(
            "avs_watcher_response_delay_seconds", "From seeing a task to seeing our answer on the chain.", _TASK_SECONDS
        )
        self._api = counter("avs_watcher_api_requests_total", "Requests to the operator's API.", "outcome")
        self._api_seconds = histogram("avs_watcher_api_request_duration_seconds", "Time of a request to it.", _SECONDS)
        self._hook = counter("avs_watcher_hook_runs_total", "Runs of the hook.", "outcome")
        self._hook_seconds = histogram("avs_watcher_hook_duration_seconds", "Time of one, waiting included.", _SECONDS)
        self._rpc = counter("avs_watcher_rpc_batches_total", "Batches put to a node.", "endpoint", "outcome")
        self._rpc_seconds = histogram("avs_watcher_rpc_batch_duration_seconds", "Time of one.", _SECONDS, "endpoint")
        self._endpoint = self._gauge("avs_watcher_endpoint_up", "1 while the node is in use.", "endpoint")
        self._commit = histogram("avs_watcher_ledger_commit_duration_seconds", "Time of a ledger commit.", _SECONDS)
        self._verbs = histogram("avs_watcher_ledger_commit_writes", "Writes that shared one commit.", _VERBS)
        self._store_failures = counter("avs_watcher_ledger_failures_total", "Commits the database did not take.")

    def _begin(self) -> None:
        """A series that is there from the start shows its first increment; rules then need no special case."""
        self._score.labels(self._avs).set(100)
        self._build.labels(program_version(), platform.python_version()).set(1)
        self._left.set(math.nan)
        self._seconds_left.set(math.nan)
        for outcome in API_OUTCOMES:
            self._api.labels(outcome)
        for outcome in HOOK_OUTCOMES:
            self._hook.labels(outcome)
        for state in State:
            self._tasks.labels(state)
            self._moves.labels(state)
        for key in TROUBLES:
            self._trouble.labels(key)
        for service in self._services:
            self._up.labels(service)

    # -- as it happens -----------------------------------------------------------------------------------------------

    def named(self, endpoint: str, client_version: str) -> None:
        """What software a node says it is."""
        if client_version not in self._versions_ever and len(self._versions_ever) >= _VERSIONS_LIMIT:
            client_version = _OTHER  # a series lives as long as the process
        else:
            self._versions_ever.add(client_version)
        self._versions[endpoint] = client_version or "unknown"

    def asked(self, asked: Asked) -> None:
        """A node was asked."""
        client_version = self._versions.get(asked.endpoint, "unknown")
        for method in asked.methods:
            self._eigen_total.labels(self._avs, method, client_version).inc()
        for method in set(asked.methods):
            self._eigen_seconds.labels(self._avs, method, client_version).observe(asked.seconds)
        self._rpc.labels(asked.endpoint, "ok" if asked.ok else "failed").inc()
        self._rpc_seconds.labels(asked.endpoint).observe(asked.seconds)

    def sent(self, outcome: str, seconds: float) -> None:
        """A request to the API came back; `outcome` is one of API_OUTCOMES."""
        self._api.labels(outcome).inc()
        self._api_seconds.observe(seconds)

    def hook_ran(self, outcome: str, seconds: float) -> None:
        """The hook ran; `outcome` is one of HOOK_OUTCOMES."""
        self._hook.labels(outcome).inc()
        self._hook_seconds.observe(seconds)

    def committed(self, batch: Batch) -> None:
        """The ledger committed, or could not."""
        if batch.condition is not None:
            self._store_failures.inc()
            return
        self._commit.observe(batch.seconds)
        self._verbs.observe(batch.verbs)

    def moved(self, moves: Sequence[Moved]) -> None:
        """Tasks have moved."""
        for one in moves:
            self._moves.labels(one.to_state).inc()
            if one.to_state in self._ended:
                self._ended[one.to_state] += 1
            if one.from_state in self._ended:
                self._ended[one.from_state] -= 1
            delay_s = max(0, one.at_ms - one.seen_at_ms) / 1000
            if one.to_state is State.SENDING and one.number == 1:
                self._to_post.observe(delay_s)
            elif one.to_state is State.RESPONDED:
                self._to_answer.observe(delay_s)
            if one.to_state in _COUNTED:
                self._lately.append(_COUNTED[one.to_state])
                self._score.labels(self._avs).set(100 * sum(self._lately) / len(self._lately))

    # -- as it stands ------------------------------------------------------------------------------------------------

    def counted(self, ended: Mapping[State, int]) -> None:
        """How many tasks of the whole ledger have ended in each way."""
        self._ended = {state: ended.get(state, 0) for state in self._ended}

    def told(
        self,
        health: Health,
        work: Work | None,
        beats: Mapping[str, float],
        endpoints: Sequence[EndpointSeen],
        head_age_s: float,
    ) -> None:
        """The judgement, and what it rests on."""
        self._judged.set(health.at_ms / 1000)
        self._ready.set(health.ready)
        for service in health.services:
            self._up.labels(service.id).set(service.status is Status.UP)
        wrong = {condition.key for condition in health.conditions}
        for key in TROUBLES:
            self._trouble.labels(key).set(key in wrong)
        for stage, age_s in beats.items():
            self._beat.labels(stage).set(age_s)
        for endpoint in endpoints:
            self._endpoint.labels(endpoint.name).set(endpoint.reason is None and endpoint.served_s is not None)
        self._head_age.set(head_age_s)
        if work is not None and health.work is not None:
            self._work(health, work)

    def broken(self) -> None:
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
