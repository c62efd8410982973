"""The composition root: the stages, put together from their parts.

Invariant: only here is a stage handed something of a sibling's, as a typed callable, and only `_wrap` puts wrappers
around such a callable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import SystemRandom

from watcher.chain.admit import Admit
from watcher.chain.backfill import Backfill
from watcher.chain.confirm import Confirm
from watcher.chain.consistency import Consistency
from watcher.chain.contract import TaskManager
from watcher.chain.drift import Drift
from watcher.chain.dry_run import DryRun
from watcher.chain.recheck import Recheck
from watcher.chain.reconcile import Reconcile
from watcher.chain.resolve import Resolver
from watcher.chain.rpc.poll import Pushed
from watcher.chain.source import Source
from watcher.chain.watch import Progress, Watch, WatchPlan
from watcher.daemon import parts
from watcher.daemon.auditing import Auditing
from watcher.daemon.publication import Publication
from watcher.daemon.routes import RouterMaker
from watcher.daemon.traced import TracedRequests, traced_hook, traced_resolve
from watcher.errors import AttemptFailed, Quarantine
from watcher.health.observers import DIRECT, Observer
from watcher.hook.respond import Respond, RespondPlan, RunHook
from watcher.hook.room import Room
from watcher.hook.runner import workers_of_each
from watcher.operator.pacing import SubmitPlan
from watcher.operator.route import Sender
from watcher.operator.submit import Submit
from watcher.settings.daemon import ROLES
from watcher.settings.hook import Hook
from watcher.settings.model import Chain, Settings
from watcher.settings.operator import Operator
from watcher.stage import Stage, Wakeups
from watcher.task import Later, Resolve, Response, Skip, Task

_STAGE_IDLE_S = 5.0
# The stages of the role "watch", which one replica runs at a time.
LED = frozenset({"watch", "admit", "recheck"})


@dataclass(frozen=True, slots=True)
class Outside:
    """The hook and the senders to the two APIs; None: there is none. `observer` watches all three.

    `publication` has the receivers of roots; None: the log alone. `share` returns how many requests may be on their way
    to the APIs now; None: as many as operator.concurrency. `room` is that of all hooks of the process; None: no limit.
    """

    run_hook: RunHook | None = None
    main: Sender | None = None
    direct: Sender | None = None
    observer: Observer | None = None
    publication: Publication | None = None
    share: Callable[[], int] | None = None
    room: Room | None = None


@dataclass(frozen=True, slots=True)
class Listeners:
    """Callables for news of the stages.

    `progress` gets each new cursor and head, `on_window` each new response window in blocks, `on_contradictions` the
    present contradictions between contract and convention.
    """

    progress: Progress = lambda _block, _head: None
    on_window: Callable[[int], None] = lambda _window_blocks: None
    on_contradictions: Callable[[Sequence[str]], None] = lambda _messages: None


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages and periodic checks of a running daemon.

    `respond` and `submit` are None where the process does not run them. `roles` are those that it has. `make_router`
    makes the routes anew for an [operator] that has changed.
    """

    watch: Watch
    admit: Admit
    respond: Respond | None
    submit: Submit | None
    confirm: Confirm
    recheck: Recheck
    reconcile: Reconcile
    drift: Drift
    consistency: Consistency
    backfill: Backfill
    auditing: Auditing
    make_router: RouterMaker | None
    roles: tuple[str, ...] = ROLES

    @property
    def stages(self) -> list[Stage]:
        """The stages that run, in the order a task travels."""
        every = (self.watch, self.admit, self.respond, self.submit, self.confirm, self.recheck)
        return [stage for stage in every if stage is not None and role_of(stage) in self.roles]


def role_of(stage: Stage) -> str:
    """Return the role that runs a stage."""
    return "watch" if stage.name in LED else stage.name


@dataclass(frozen=True, slots=True)
class _Calls:
    """The callables that stages are handed, wrapped, and the dry run that others share."""

    run_hook: RunHook | None
    main: Sender | None
    direct: Sender | None
    resolve: Resolve
    dry_run: DryRun | None
    requests: TracedRequests


def _wrap(source: Source, outside: Outside, *, with_dry_run: bool) -> _Calls:
    """Wrap a hook run, both senders and the verdict; what is applied last is outermost."""
    run_hook, main, direct = outside.run_hook, outside.main, outside.direct
    if run_hook is not None:
        run_hook = fitted(run_hook, source.contract)
    if outside.observer is not None:
        observer = outside.observer
        run_hook = None if run_hook is None else observer.observe_hook(run_hook)
        main = None if main is None else observer.observe_sender(main)
        direct = None if direct is None else observer.observe_sender(direct, DIRECT)
    requests = TracedRequests(source.trace)
    if source.trace.on:
        run_hook = None if run_hook is None else traced_hook(run_hook, source.trace)
        main = None if main is None else requests.sender(main)
        direct = None if direct is None else requests.sender(direct)
    resolver = Resolver(source)
    dry_run = DryRun(source.contract, source.clock) if with_dry_run else None
    resolve = resolver.resolve if dry_run is None else dry_run.before(resolver.resolve)
    if source.trace.on:
        resolve = traced_resolve(resolve, source.trace)
    return _Calls(run_hook, main, direct, resolve, dry_run, requests)


def fitted(run_hook: RunHook, contract: TaskManager) -> RunHook:
    """Wrap `run_hook`: it gets every field of the task's event, and its answer must have the contract's type."""
    convention = contract.convention

    async def run(task: Task) -> Response | Skip | Later:
        try:
            answer = await run_hook(replace(task, fields=convention.fields(task)))
            if isinstance(answer, Response):
                convention.answer.value_of(answer.resp_message)
        except Quarantine as unfit:
            raise AttemptFailed(str(unfit)) from None
        return answer

    return run


def build(
    settings: Settings, source: Source, outside: Outside | None = None, listeners: Listeners | None = None
) -> Stages:
    """Return all stages over one ledger.

    Args:
        settings: the sections chain, task_manager, hook and operator are read.
        source: chain, contract, ledger and clock.
        outside: hook and APIs; None: the daemon only observes.
        listeners: callables for news of the stages.
    """
    outside, listeners = outside or Outside(), listeners or Listeners()
    chain, operator = settings.chain, settings.operator
    calls = _wrap(source, outside, with_dry_run=settings.task_manager.dry_run)
    watch = _watch(chain, source, listeners.progress)
    make_router = None
    if calls.main is not None:
        make_router = RouterMaker(source.contract, calls.main, calls.direct, source.clock, calls.requests.built)
    return Stages(
        watch=watch,
        admit=Admit(source, chain.confirmations, _STAGE_IDLE_S, chain.quorum),
        respond=_respond(settings.hook, source, calls, outside.room),
        submit=None if make_router is None else _submit(operator, source, calls, make_router, outside.share),
        confirm=Confirm(source, _STAGE_IDLE_S, operator.resolve_after_blocks, calls.dry_run, chain.quorum),
        recheck=Recheck(source, watch.reader, chain.confirmations, chain.max_span_blocks, _STAGE_IDLE_S),
        reconcile=Reconcile(source, watch.reader),
        consistency=Consistency(source, listeners.on_contradictions),
        backfill=Backfill(source),
        auditing=Auditing(source.ledger, source.clock, outside.publication),
        drift=Drift(source, watch.reader, calls.dry_run, listeners.on_window),
        make_router=make_router,
        roles=settings.daemon.roles,
    )


def push_to(watch: Watch, wakeups: Wakeups) -> Callable[[Pushed | None], None]:
    """Return the function that takes what a subscription pushes: it wakes the watch, with the hint."""

    def push(block: Pushed | None) -> None:
        watch.push(block)
        wakeups.wake(watch.name)

    return push


def _watch(chain: Chain, source: Source, progress: Progress) -> Watch:
    plan = WatchPlan(
        chain.chain_id,
        chain.finality,
        chain.max_span_blocks,
        chain.poll_interval_s,
        chain.confirmations,
    )
    return Watch(source, plan, progress)


def _respond(hook: Hook, source: Source, calls: _Calls, room: Room | None) -> Respond | None:
    if calls.run_hook is None:
        return None
    return Respond(calls.run_hook, source.ledger, source.clock, SystemRandom(), respond_plan(hook), room)


def _submit(
    operator: Operator, source: Source, calls: _Calls, make_router: RouterMaker, share: Callable[[], int] | None
) -> Submit:
    router, left_s, plan = make_router(operator), source.pace.left_s, submit_plan(operator)
    return Submit(router, calls.resolve, source.ledger, source.clock, SystemRandom(), plan, left_s, share)


def respond_plan(hook: Hook) -> RespondPlan:
    """Return the numbers of the responding stage."""
    types = parts.value_types(hook)
    workers = workers_of_each(hook.workers) if hook.run_twice else hook.workers
    return RespondPlan(workers, hook.timeout_s, hook.max_attempts, hook.retry_base_s, _STAGE_IDLE_S, types)


def submit_plan(operator: Operator) -> SubmitPlan:
    """Return the numbers of the submitting stage."""
    return SubmitPlan(
        concurrency=operator.concurrency,
        timeout_s=operator.timeout_s,
        retry_base_s=operator.retry_base_s,
        retry_max_s=operator.retry_max_s,
        resolve_after_blocks=operator.resolve_after_blocks,
        idle_s=_STAGE_IDLE_S,
    )
