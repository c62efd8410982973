"""The monitor: evaluates the whole daemon every second, for the metrics and for its listeners.

Invariants: a step never waits for the database or for a node, so that the evaluation goes on when those hang. The work
of a step follows the open tasks, not the size of the ledger.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from loguru import logger

from watcher.chain.rpc.nodes import NodePool
from watcher.clock import Clock
from watcher.errors import RetryElsewhere, TryLater
from watcher.health.measure import LedgerMeasure
from watcher.health.metrics import Metrics
from watcher.health.observers import ChainProgress, Observer
from watcher.health.prober import PROBE_EVERY_S, Prober
from watcher.health.readings import Limits, NodeSeen, Observations, StageSeen, StoreSeen, WorkSeen
from watcher.health.status import log_changes
from watcher.health.surroundings import Surroundings
from watcher.health.verdict import Health, evaluate
from watcher.ledger import stats
from watcher.ledger.store import Ledger
from watcher.ledger.writer import NOT_WRITTEN
from watcher.stage import StageLoop
from watcher.state import State

_STEP_EVERY_S = 1.0
# A ledger with a long backlog takes a while to measure: it is measured so rarely that it costs a tenth of one thread.
_MEASURE_SHARE = 10
_TOUCH_AFTER_S = 10.0
_VERSION_EVERY_S = 3600
_VERSION_AGAIN_S = 60.0
_HOOK_FILES_EVERY_S = 5.0


class Monitor:
    """The last evaluation in `health`, renewed every second by `run`, and what is known of the ledger in `measure`.

    A daemon calls `opened` once the ledger is open, then `started` once the stages run.
    """

    def __init__(
        self,
        observer: Observer,
        metrics: Metrics,
        clock: Clock,
        limits: Limits,
        nodes: NodePool,
        surroundings: Surroundings | None = None,
        *,
        sends: bool = True,
        runs_hook: bool = True,
        answers: bool = True,
    ) -> None:
        """Evaluate the API if this process `sends`, the hook if it `runs_hook`, deadlines if any process `answers`."""
        around = surroundings or Surroundings()
        self._observer = observer
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._nodes = nodes
        self.ledger: Ledger | None = None
        self._loops: Sequence[StageLoop] = ()
        self._started = False
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._next_s: dict[str, float] = {}
        self._waiting_since_s: dict[str, float] = {}
        self.measure = LedgerMeasure(metrics, clock, around.on_move)
        self._progress = ChainProgress(clock)
        self._prober = Prober(observer, clock, around.apis, around.on_back)
        self._sends, self._runs_hook, self._answers = sends, runs_hook, answers
        self._replica = around.replica
        self._changed_hook_files = around.changed_hook_files
        self.health = Health(clock.now_ms())
        self.evaluated_s = clock.monotonic_s()
        self._listeners = around.listeners

    async def opened(self, ledger: Ledger, danger_blocks: int) -> None:
        """Use the ledger, which is open while no stage runs yet; `danger_blocks` as in Limits.

        Raises:
            TryLater: the ledger cannot be read.
        """
        await self.measure.opened(ledger)
        self.ledger = ledger
        self._limits = replace(self._limits, danger_blocks=danger_blocks)

    def set_danger_blocks(self, danger_blocks: int) -> None:
        """Use another number of blocks, as in Limits."""
        self._limits = replace(self._limits, danger_blocks=danger_blocks)

    def started(self, loops: Sequence[StageLoop]) -> None:
        """Use the loops of the stages, which run from now on."""
        self._loops, self._started = loops, True

    async def run(self) -> None:
        """Evaluate every second until cancelled."""
        try:
            while True:
                self.step()
                await self._clock.sleep(_STEP_EVERY_S)
        finally:
            for job in self._jobs.values():
                job.cancel()
            await asyncio.gather(*self._jobs.values(), return_exceptions=True)

    def step(self) -> Health:
        """Evaluate what is known now, hand it to the listeners, and start the jobs that are due."""
        self._begin_jobs()
        work = self.measure.work
        final_block = work.cursor.final_block if work else None
        self._progress.follow(self._nodes.head_block, final_block, self._nodes.head_time_s)
        now_s = self._clock.monotonic_s()
        before, self.health = self.health, evaluate(self._observations(now_s), self._limits, self.health)
        log_changes(before, self.health)
        self.evaluated_s = now_s
        beats = {loop.stage.name: now_s - loop.beat_s for loop in self._loops}
        self._metrics.evaluated(self.health, work, beats, self._nodes.seen, self._progress.head_moved_ago_s)
        for listener in self._listeners:
            listener(self.health)
        return self.health

    @property
    def stuck(self) -> str | None:
        """Why this process makes no progress, None while it does. Independent of everything outside."""
        now_s = self._clock.monotonic_s()
        if now_s - self.evaluated_s > self._limits.stuck_s:
            return "the watcher does not evaluate its health any more"
        late = [loop.stage.name for loop in self._loops if now_s - loop.beat_s > self._limits.stuck_s]
        return f"stage {late[0]} makes no progress" if late else None

    # -- observations --------------------------------------------------------------------------------------------------

    def _observations(self, now_s: float) -> Observations:
        work = self.measure.work
        waiting = work.open_by_state.get(State.READY, 0) if work else 0
        asked_s = min((self._next_s[name] for name in ("touch", "measure") if name in self._jobs), default=now_s)
        return Observations(
            at_ms=self._clock.now_ms(),
            started=self._started,
            node=self._node(now_s),
            api=self._observer.api if self._sends else None,
            hook=self._observer.hook_now(waiting) if self._runs_hook else None,
            store=StoreSeen(self._store_condition, max(0.0, now_s - asked_s), work.held_message if work else ""),
            stages=[self._stage(loop, now_s) for loop in self._loops],
            work=self._seen_work(now_s),
            contradictions=self._observer.contradictions,
            shadow=self._observer.shadow.message,
            answered_elsewhere=self._answers and not self._sends,
            replica=self._replica(),
            roots=self._metrics.roots.undelivered,
        )

    @property
    def _store_condition(self) -> str | None:
        # A small write may find room where those of a stage do not: the condition ends when no stage waits for it.
        waits = (loop.condition for loop in self._loops if loop.condition and loop.condition.startswith(NOT_WRITTEN))
        return self._observer.damage or self._observer.store_condition or self.measure.error or next(waits, None)

    def _node(self, now_s: float) -> NodeSeen:
        seen = self._nodes.seen
        answered = [node.served_s for node in seen if node.served_s is not None]
        reason = "; ".join(node.reason for node in seen if node.reason is not None)
        progress, disagreement = self._progress, self._nodes.disagreement
        return NodeSeen(
            now_s - max(answered) if answered else None,
            reason,
            progress.head_block,
            progress.head_moved_ago_s,
            progress.usual_interval_s,
            progress.final_left_behind_s,
            final_at_head_s=self._nodes.final_at_head_s,
            disagreement="" if disagreement is None else disagreement.message,
            disagreeing_s=0.0 if disagreement is None else disagreement.last_s - disagreement.first_s,
        )

    def _stage(self, loop: StageLoop, now_s: float) -> StageSeen:
        name = loop.stage.name
        if loop.condition is None:
            self._waiting_since_s.pop(name, None)
        since_s = self._waiting_since_s.setdefault(name, now_s) if loop.condition is not None else now_s
        return StageSeen(name, now_s - loop.beat_s, loop.condition, now_s - since_s)

    def _seen_work(self, now_s: float) -> WorkSeen | None:
        work = self.measure.work
        if work is None:
            return None
        due_ms = work.oldest_due_ms
        return WorkSeen(
            cursor_block=work.cursor.block,
            head_block=work.cursor.head_block,
            final_block=work.cursor.final_block,
            open_tasks=sum(work.open_by_state.values()),
            nearest_deadline_block=work.nearest_deadline_block,
            closed_block=work.cursor.head_closed_block,
            endangered=work.endangered,
            overdue_s=0.0 if due_ms is None else max(0, self._clock.now_ms() - due_ms) / 1000,
            moved_ago_s=now_s - self.measure.moved_s,
            seconds_left=None if work.nearest_deadline_s is None else work.nearest_deadline_s - self._chain_time_s,
            endangered_by_time=work.endangered_by_time,
            unshown=work.unshown.count,
            unshown_reason=f"task {work.unshown.task_index}: {work.unshown.why}" if work.unshown.count else "",
        )

    @property
    def _chain_time_s(self) -> float:
        """The time contracts use, in seconds since 1970; the machine's until a head was seen."""
        chain_s = self._progress.chain_time_s
        return self._clock.now_ms() / 1000 if chain_s is None else chain_s

    # -- jobs in the background ----------------------------------------------------------------------------------------

    def _begin_jobs(self) -> None:
        """Start the jobs that are due, one of each kind at most, so that those that hang do not pile up."""
        now_s = self._clock.monotonic_s()
        ledger = self.ledger
        if ledger is not None:
            self._begin("measure", now_s, self._renew_measure, ledger)
            if now_s - self._observer.committed_s > _TOUCH_AFTER_S:
                self._begin("touch", now_s, self._touch, ledger)
        self._begin("versions", now_s, self._versions)
        if self._changed_hook_files is not None:
            self._begin("hook files", now_s, self._compare_hook, self._changed_hook_files)
        if self._prober.due:
            self._begin("probe", now_s, self._probe)

    def _begin(self, name: str, now_s: float, job: Callable[..., Awaitable[None]], *arguments: object) -> None:
        if name in self._jobs or now_s < self._next_s.get(name, 0.0):
            return
        self._next_s[name] = now_s

        async def run() -> None:
            try:
                await job(*arguments)
            except (TryLater, RetryElsewhere) as condition:
                logger.debug("health.job_failed: a background job will be tried again", job=name, reason=str(condition))
            finally:
                del self._jobs[name]

        self._jobs[name] = asyncio.create_task(run(), name=f"monitor {name}")

    async def _renew_measure(self, ledger: Ledger) -> None:
        began_s = self._clock.monotonic_s()
        await self.measure.renew(ledger, self._limits, self._chain_time_s)
        now_s = self._clock.monotonic_s()
        self._next_s["measure"] = now_s + _MEASURE_SHARE * (now_s - began_s)

    async def _touch(self, ledger: Ledger) -> None:
        await ledger.write(stats.touch, ledger.source_id)

    async def _versions(self) -> None:
        self._next_s["versions"] = self._clock.monotonic_s() + _VERSION_EVERY_S
        for node in self._nodes.nodes:
            try:
                self._metrics.rpc.named(node.name, await node.client_version())
            except RetryElsewhere:
                self._next_s["versions"] = self._clock.monotonic_s() + _VERSION_AGAIN_S

    async def _compare_hook(self, changed_files: Callable[[], Awaitable[str]]) -> None:
        self._next_s["hook files"] = self._clock.monotonic_s() + _HOOK_FILES_EVERY_S
        self._observer.hook_compared(await changed_files())

    async def _probe(self) -> None:
        self._next_s["probe"] = self._clock.monotonic_s() + PROBE_EVERY_S
        await self._prober.probe_all()
