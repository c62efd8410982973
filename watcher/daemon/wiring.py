"""Puts the stages together from the settings: the composition root.

Invariant: the only place where a stage is handed something of a sibling's, always as a typed callable.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import SystemRandom

from loguru import logger
from pydantic import SecretStr

from watcher.chain.admit import Admit
from watcher.chain.confirm import Confirm
from watcher.chain.consistency import Consistency
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.drift import Drift
from watcher.chain.dry_run import DryRun
from watcher.chain.numbering import OWN_BLOCKS, Numbering
from watcher.chain.recheck import Recheck
from watcher.chain.reconcile import Reconcile
from watcher.chain.resolve import Resolver
from watcher.chain.rpc.batch import Asked
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.pace import Pace
from watcher.chain.rpc.subscription import Subscription
from watcher.chain.watch import Progress, Watch, WatchPlan
from watcher.clock import Clock
from watcher.daemon.routes import router_maker
from watcher.errors import AttemptFailed, Quarantine
from watcher.hook.pool import PoolPlan, WorkerPool
from watcher.hook.respond import Respond, RespondPlan, RunHook
from watcher.hook.syscalls import keep_memory_private
from watcher.ledger.engine import parse_url, sqlite_path
from watcher.ledger.store import Ledger
from watcher.operator.client import Client
from watcher.operator.endpoint import Endpoint
from watcher.operator.pacing import SubmitPlan
from watcher.operator.route import Router, Sender
from watcher.operator.submit import Submit
from watcher.settings.model import Settings
from watcher.settings.operator import Direct, Operator
from watcher.stage import Stage
from watcher.task import Later, Resolve, Response, Skip, Task

_STAGE_IDLE_S = 5.0
_SYSTEM_CREDENTIALS = "/run/credentials"


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of a running daemon. `respond` and `submit` are None where it only observes.

    `router` makes the ways to send anew for settings that have changed.
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
    router: Callable[[Settings], Router] | None

    @property
    def stages(self) -> list[Stage]:
        """Those there are, in the order of a task's way."""
        every = (self.watch, self.admit, self.respond, self.submit, self.confirm, self.recheck)
        return [stage for stage in every if stage is not None]


def endpoints(settings: Settings, clock: Clock, observe: Callable[[Asked], None] = lambda _asked: None) -> NodePool:
    """The nodes the truth is read from. `observe` is told of every batch of questions."""
    chain = settings.chain
    nodes = [
        Node(
            url,
            chain.chain_id,
            clock,
            timeout_s=chain.request_timeout_s,
            body_limit_bytes=chain.body_limit_bytes,
            observe=observe,
        )
        for url in chain.http_urls
    ]
    return NodePool(nodes, clock, SystemRandom(), chain.quorum)


def task_manager(settings: Settings, nodes: NodePool) -> TaskManager:
    """The contract that is watched."""
    wanted = settings.task_manager
    file = Path(wanted.convention_file) if wanted.convention_file else None
    answers = settings.operator.api != "none"
    shape = convention(wanted.convention, file, wanted.message_limit_bytes, answers=answers)
    return TaskManager(nodes, wanted.address_bytes, shape, settings.chain.max_span_blocks)


def wakes(settings: Settings, contract: TaskManager, wake: Callable[[], None], clock: Clock) -> list[Subscription]:
    """What rings when the chain moves: one for each ws URL."""
    chain, topics0 = settings.chain, contract.convention.topics0
    return [
        Subscription(url, chain.chain_id, contract.emitters, topics0, wake, clock, SystemRandom())
        for url in chain.ws_urls
    ]


def pool(
    settings: Settings, config: Path | None = None, *, workers: int | None = None, timeout_s: float | None = None
) -> WorkerPool:
    """Return the hook's worker processes, which cannot read `config`, the credentials, the ledger or this process.

    Makes this process's memory and environment private first. None takes the number of the settings.
    """
    with suppress(OSError):
        keep_memory_private()
    hook = settings.hook
    plan = PoolPlan(
        workers=workers or hook.workers,
        timeout_s=timeout_s or hook.timeout_s,
        landlock=hook.landlock,
        memory_mb=hook.memory_mb,
        hidden=hidden_paths(settings, config, os.environ),
        tasks_per_worker=hook.tasks_per_worker,
        answer_limit_bytes=hook.answer_limit_bytes,
    )

    def log(task: Task | None, line: str) -> None:
        (logger if task is None else logger.bind(task=task.task_index)).info("hook: {}", line)

    return WorkerPool(hook.target, hook.app_dir, plan, log=log)


def hidden_paths(settings: Settings, config: Path | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a hook must not reach: the credentials, the configuration and the ledger, as absolute paths."""
    paths = [str(config.absolute())] if config is not None else []
    if folder := environ.get("CREDENTIALS_DIRECTORY"):
        # Those of other services of this user, too.
        paths.append(_SYSTEM_CREDENTIALS if Path(folder).is_relative_to(_SYSTEM_CREDENTIALS) else folder)
    ledger = sqlite_path(parse_url(settings.ledger.url))
    if ledger is not None:
        paths.append(str(ledger.absolute()))
    return tuple(paths)


def client(settings: Settings, clock: Clock) -> Client:
    """The hosted operator's API."""
    operator = settings.operator
    return _client(settings, operator, operator.username, operator.password, clock)


def direct_client(settings: Settings, clock: Clock) -> Client | None:
    """The operator API beside the proxy, None where there is none."""
    operator, direct = settings.operator, settings.operator.direct
    if not direct.url:
        return None
    return _client(settings, direct, direct.username or operator.username, direct.password or operator.password, clock)


def _client(
    settings: Settings, place: Operator | Direct, username: str, password: SecretStr | None, clock: Clock
) -> Client:
    endpoint = Endpoint(
        url=place.url,
        username=username,
        password=password.get_secret_value() if password else "",
        timeout_s=settings.operator.timeout_s,
        body_limit_bytes=settings.operator.body_limit_bytes,
        concurrency=settings.operator.concurrency,
        ca_file=Path(place.ca_file) if place.ca_file else None,
        allow_plain_http=place.allow_plain_http,
    )
    return Client(endpoint, clock)


def build(
    settings: Settings,
    nodes: NodePool,
    contract: TaskManager,
    ledger: Ledger,
    clock: Clock,
    window_blocks: int | None,
    run_hook: RunHook | None,
    sender: Sender | None,
    progress: Progress,
    direct: Sender | None = None,
    numbering: Numbering = OWN_BLOCKS,
    pace: Pace | None = None,
) -> Stages:
    """All stages over one ledger. `direct` sends to the operator API beside the proxy."""
    chain = settings.chain
    evaluate = Resolver(nodes, contract, ledger)
    plan = WatchPlan(
        chain.chain_id,
        chain.finality,
        chain.max_span_blocks,
        chain.poll_interval_s,
        chain.confirmations,
        numbering,
    )
    watch = Watch(nodes, contract, ledger, plan, window_blocks, progress)
    router = None if sender is None else router_maker(contract, sender, direct, clock)
    dry_run = DryRun(contract, clock) if settings.task_manager.dry_run else None
    resolve = evaluate.resolve if dry_run is None else dry_run.before(evaluate.resolve)
    return Stages(
        watch=watch,
        admit=Admit(nodes, contract, ledger, clock, chain.confirmations, _STAGE_IDLE_S, chain.quorum),
        respond=None if run_hook is None else _respond(settings, fitted(run_hook, contract), ledger, clock),
        submit=None if router is None else _submit(settings, router(settings), resolve, ledger, clock, pace or Pace()),
        confirm=Confirm(
            nodes,
            contract,
            evaluate,
            ledger,
            clock,
            _STAGE_IDLE_S,
            settings.operator.resolve_after_blocks,
            dry_run,
            chain.quorum,
        ),
        recheck=Recheck(nodes, contract, watch, ledger, chain.confirmations, chain.max_span_blocks, _STAGE_IDLE_S),
        reconcile=Reconcile(contract, watch, ledger),
        consistency=Consistency(contract, ledger),
        drift=Drift(nodes, contract, watch, dry_run, ledger),
        router=router,
    )


def respond_plan(settings: Settings) -> RespondPlan:
    """The numbers of the responding stage."""
    hook = settings.hook
    return RespondPlan(hook.workers, hook.timeout_s, hook.max_attempts, hook.retry_base_s, _STAGE_IDLE_S)


def submit_plan(settings: Settings) -> SubmitPlan:
    """The numbers of the submitting stage."""
    operator = settings.operator
    return SubmitPlan(
        concurrency=operator.concurrency,
        timeout_s=operator.timeout_s,
        retry_base_s=operator.retry_base_s,
        retry_max_s=operator.retry_max_s,
        resolve_after_blocks=operator.resolve_after_blocks,
        idle_s=_STAGE_IDLE_S,
    )


def fitted(run_hook: RunHook, contract: TaskManager) -> RunHook:
    """The hook, given every field of the task's event, and its answer held to the type the contract takes."""
    convention = contract.convention

    async def run(task: Task) -> Response | Skip | Later:
        try:
            verdict = await run_hook(replace(task, fields=convention.fields(task)))
            if isinstance(verdict, Response):
                convention.answer.value_of(verdict.resp_message)
        except Quarantine as unfit:
            raise AttemptFailed(str(unfit)) from None
        return verdict

    return run


def _respond(settings: Settings, run_hook: RunHook, ledger: Ledger, clock: Clock) -> Respond:
    return Respond(run_hook, ledger, clock, SystemRandom(), respond_plan(settings))


def _submit(settings: Settings, router: Router, resolve: Resolve, ledger: Ledger, clock: Clock, pace: Pace) -> Submit:
    return Submit(router, resolve, ledger, clock, SystemRandom(), submit_plan(settings), pace.left_s)
