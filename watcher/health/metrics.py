"""The metrics for Prometheus: the three `eigen_` metrics of the AVS specification that apply here, and our own.

Invariants: label sets are fixed (states, services, outcomes, configured endpoints by their origin), never data of a
task; everything is counted as it happens or copied from the last evaluation, so that a scrape reads no database.
"""

import math
import platform
from collections.abc import Mapping, Sequence

from watcher.chain.rpc.member import EndpointSeen
from watcher.files import program_version
from watcher.health.conditions import CONDITION_KEYS
from watcher.health.hook_version import HookVersion
from watcher.health.readings import SERVICES
from watcher.health.registry import SECONDS, Registry
from watcher.health.replica_metrics import ReplicaMetrics
from watcher.health.root_metrics import RootMetrics
from watcher.health.rpc_metrics import RpcMetrics
from watcher.health.shadow_observer import ShadowMetrics
from watcher.health.task_metrics import TaskMetrics
from watcher.health.verdict import Health, Status
from watcher.ledger.stats import Work
from watcher.ledger.writer import Batch

_VERBS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
API_OUTCOMES = ("accepted", "refused", "refuses_us", "not_sent", "unknown")
HOOK_OUTCOMES = ("answered", "skipped", "later", "failed", "no_worker")


class Metrics:
    """All metrics, in a registry of their own. Not thread-safe."""

    def __init__(self, avs_name: str = "", services: Sequence[str] = tuple(SERVICES)) -> None:
        registry = Registry()
        self.registry, self.described = registry.collector, registry.described
        self.tasks = TaskMetrics(avs_name, registry)
        self.rpc = RpcMetrics(avs_name, registry)
        self._state_metrics(registry)
        self._outside_metrics(registry)
        self.shadow = ShadowMetrics(registry)
        self.roots = RootMetrics(registry)
        self._replicas = ReplicaMetrics(registry)
        self._begin(services)

    def _state_metrics(self, registry: Registry) -> None:
        gauge = registry.gauge
        self._build = gauge("avs_watcher_build_info", "1; the labels name the versions.", "version", "python")
        self.hook_version = HookVersion(gauge("avs_watcher_hook_info", "1; the label names its code.", "version"))
        self._ready = gauge("avs_watcher_ready", "1 while /readyz says 200.")
        self._up = gauge("avs_watcher_service_up", "1 while the service is up.", "service")
        self._condition = gauge("avs_watcher_trouble", "1 while the condition lasts; keys as in /readyz.", "key")
        self._evaluated = gauge("avs_watcher_judged_timestamp_seconds", "Unix time of the last evaluation.")
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

    def _outside_metrics(self, registry: Registry) -> None:
        histogram, counter = registry.histogram, registry.counter
        self._api = counter("avs_watcher_api_requests_total", "Requests to the operator's API.", "outcome")
        self._api_seconds = histogram("avs_watcher_api_request_duration_seconds", "Time of a request.", SECONDS)
        self._hook = counter("avs_watcher_hook_runs_total", "Runs of the hook.", "outcome")
        self._hook_seconds = histogram("avs_watcher_hook_duration_seconds", "Time of a run and its wait.", SECONDS)
        self._commit = histogram("avs_watcher_ledger_commit_duration_seconds", "Time of a ledger commit.", SECONDS)
        self._verbs = histogram("avs_watcher_ledger_commit_writes", "Writes that shared one commit.", _VERBS)
        self._store_failures = counter("avs_watcher_ledger_failures_total", "Commits that failed.")

    def _begin(self, services: Sequence[str]) -> None:
        """Create every known series: one that is there from the start shows its first increment to rules."""
        self._build.labels(program_version(), platform.python_version()).set(1)
        self._left.set(math.nan)
        self._seconds_left.set(math.nan)
        # Looking a series up by its labels costs more than counting: those of each task are kept.
        self._api_by_outcome = {outcome: self._api.labels(outcome) for outcome in API_OUTCOMES}
        self._hook_by_outcome = {outcome: self._hook.labels(outcome) for outcome in HOOK_OUTCOMES}
        for key in CONDITION_KEYS:
            self._condition.labels(key)
        for service in services:
            self._up.labels(service)

    # -- counted as it happens -----------------------------------------------------------------------------------------

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

    # -- copied from the last evaluation -------------------------------------------------------------------------------

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
        self.rpc.show(nodes)
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
        self.tasks.show(work.open_by_state)
