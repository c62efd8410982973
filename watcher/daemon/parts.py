"""The parts that reach outside, each built from its own section of the settings: nodes, contract, workers, APIs."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

from loguru import logger
from pydantic import SecretStr

from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.rpc.batch import Asked
from watcher.chain.rpc.connections import Connections
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.poll import Pushed
from watcher.clock import Clock
from watcher.daemon.decoder import decoder_of
from watcher.dashboard.routes import Dashboard
from watcher.dashboard.view import DashboardPlan
from watcher.health.prefix import prefix_of
from watcher.hook.output import Log
from watcher.hook.plan import PoolPlan
from watcher.hook.room import Room
from watcher.hook.runner import Runner, open_runner
from watcher.hook.syscalls import keep_memory_private
from watcher.hook.values import ValueTypes
from watcher.ledger.engine import parse_url, sqlite_path
from watcher.operator.client import Client
from watcher.operator.endpoint import Endpoint
from watcher.settings import model
from watcher.settings.hook import Hook
from watcher.settings.ledger import Ledger
from watcher.settings.operator import Direct, Operator
from watcher.task import Task

if TYPE_CHECKING:
    from watcher.chain.rpc.subscription import Subscription
    from watcher.health.access import Access
    from watcher.health.monitor import Monitor

_SYSTEM_CREDENTIALS = "/run/credentials"


def node_pool(
    chain: model.Chain,
    clock: Clock,
    observe: Callable[[Asked], None] = lambda _asked: None,
    left_s: Callable[[], float | None] = lambda: None,
    connections: Connections | None = None,
) -> NodePool:
    """Return the nodes of chain.rpc_urls with http(s) URLs.

    Args:
        chain: the section [chain].
        clock: paces retries and rests.
        observe: called after every batch of requests.
        left_s: the seconds to the nearest deadline of an open task, None while there is none.
        connections: those of the process; None: the pool has its own.

    Raises:
        FixConfiguration: there is no http(s) URL.
    """
    nodes = [
        Node(
            url,
            chain.chain_id,
            clock,
            timeout_s=chain.request_timeout_s,
            body_limit_bytes=chain.body_limit_bytes,
            observe=observe,
            transport=None if connections is None else connections.transport(url, chain.body_limit_bytes),
        )
        for url in chain.http_urls
    ]
    return NodePool(nodes, clock, SystemRandom(), chain.quorum, left_s)


def task_manager(
    section: model.TaskManager, nodes: NodePool, max_span_blocks: int, *, answers: bool = True
) -> TaskManager:
    """Return the watched contract.

    Args:
        section: the section [task_manager].
        nodes: where its views and logs are read.
        max_span_blocks: the longest range of blocks in one request.
        answers: False where the watcher only observes, so that the convention needs no way to answer.

    Raises:
        FixConfiguration: the convention's file is wrong.
    """
    file = Path(section.convention_file) if section.convention_file else None
    own = convention(section.convention, file, section.message_limit_bytes, answers=answers)
    return TaskManager(nodes, section.address_bytes, own, max_span_blocks)


def make_pages(
    settings: model.Settings, clock: Clock, name: str, access: "Access"
) -> "Callable[[Monitor, Callable[[], float | None]], Dashboard] | None":
    """Return what makes the dashboard of an AVS for the HTTP server; None where it is turned off.

    Args:
        settings: those of the AVS.
        clock: the time of the pages.
        name: the name of the AVS, "" for the only one.
        access: who may read and act.
    """
    if not settings.http.dashboard:
        return None
    plan = DashboardPlan(
        settings.operator.avs_name,
        settings.chain.chain_id,
        settings.task_manager.address,
        settings.chain.confirmations,
        settings.hook.max_attempts,
        settings.operator.api == "none",
        lambda: decoder_of(settings),
        prefix_of(name),
        name,
    )
    return partial(Dashboard, plan, clock, access)


def subscriptions(
    chain: model.Chain, contract: TaskManager, wake: Callable[[Pushed | None], None], clock: Clock
) -> "list[Subscription]":
    """Return a subscription for each ws(s) URL; each calls `wake` with the block that a message names, if it does."""
    if not chain.ws_urls:
        return []
    from watcher.chain.rpc.subscription import Subscription  # late: websockets is for those who name such a URL

    topics0 = contract.convention.topics0
    return [
        Subscription(url, chain.chain_id, contract.emitters, topics0, wake, clock, SystemRandom())
        for url in chain.ws_urls
    ]


def hook_runner(
    hook: Hook,
    hidden: tuple[str, ...],
    *,
    workers: int | None = None,
    timeout_s: float | None = None,
    log: Log | None = None,
    tracebacks: bool = False,
    room: Room | None = None,
) -> Runner:
    """Return the runner of the hook, after making this process's memory and environment private.

    Args:
        hook: the section [hook].
        hidden: the paths a worker cannot read, as `hidden_paths` returns them.
        workers: the number of processes; None: hook.workers.
        timeout_s: the limit of one run; None: hook.timeout_s.
        log: gets the lines that the hook prints; None: the log.
        tracebacks: failures carry the traceback of the hook's code.
        room: that of all hooks of the process; None: there is no limit but that of the hook.

    Raises:
        FixConfiguration: no transport runs this form of hook.target.
    """
    with suppress(OSError):
        keep_memory_private()
    plan = PoolPlan(
        workers=workers or hook.workers,
        timeout_s=timeout_s or hook.timeout_s,
        landlock=hook.landlock,
        memory_mb=hook.memory_mb,
        hidden=hidden,
        tasks_per_worker=hook.tasks_per_worker,
        answer_limit_bytes=hook.answer_limit_bytes,
        tracebacks=tracebacks,
        types=value_types(hook),
        run_twice=hook.run_twice,
        room=room,
    )
    return open_runner(hook.target, plan, app_dir=hook.app_dir, log=log or log_output)


def shadow_runner(hook: Hook, hidden: tuple[str, ...], *, workers: int | None = None) -> Runner:
    """Return the runner of the shadow, whose workers have the lowest priority.

    Args:
        hook: the section [hook], with [hook.shadow] in it.
        hidden: the paths a worker cannot read, as `hidden_paths` returns them.
        workers: the number of processes; None: hook.shadow.workers.

    Raises:
        FixConfiguration: no transport runs this form of hook.shadow.target.
    """
    shadow = hook.shadow
    plan = PoolPlan(
        workers=workers or shadow.workers,
        timeout_s=shadow.timeout_s,
        landlock=hook.landlock,
        memory_mb=shadow.memory_mb,
        hidden=hidden,
        tasks_per_worker=hook.tasks_per_worker,
        answer_limit_bytes=hook.answer_limit_bytes,
        types=value_types(hook),
        background=True,
    )
    return open_runner(shadow.target, plan, app_dir=shadow.app_dir or hook.app_dir)


def value_types(hook: Hook) -> ValueTypes:
    """Return the types of messages and answers."""
    return ValueTypes(hook.message, hook.response)


def log_output(task: Task | None, line: str) -> None:
    """Log a line that the hook printed, with the task that it ran on."""
    (logger if task is None else logger.bind(task=task.task_index)).info("hook.output: the hook printed", line=line)


def hidden_paths(ledger: Ledger, config: Path | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the absolute paths of credentials, configuration and ledger, which a hook must not reach.

    Args:
        ledger: the section [ledger].
        config: the configuration file; None: there is none.
        environ: CREDENTIALS_DIRECTORY is read from it (systemd.exec(5), LoadCredential).
    """
    paths = [str(config.absolute())] if config is not None else []
    if folder := environ.get("CREDENTIALS_DIRECTORY"):
        # The folder above holds the credentials of this user's other services, too.
        paths.append(_SYSTEM_CREDENTIALS if Path(folder).is_relative_to(_SYSTEM_CREDENTIALS) else folder)
    file = sqlite_path(parse_url(ledger.url))
    if file is not None:
        paths.append(str(file.absolute()))
    return tuple(paths)


def client(operator: Operator, clock: Clock) -> Client:
    """Return a client of the API of [operator]. Raises FixConfiguration when its ca_file cannot be used."""
    return _client(operator, operator, operator.username, operator.password, clock)


def direct_client(operator: Operator, clock: Clock) -> Client | None:
    """Return a client of the API of [operator.direct], None if it has no url.

    Raises FixConfiguration when its ca_file cannot be used.
    """
    direct = operator.direct
    if not direct.url:
        return None
    return _client(operator, direct, direct.username or operator.username, direct.password or operator.password, clock)


def _client(
    operator: Operator, address: Operator | Direct, username: str, password: SecretStr | None, clock: Clock
) -> Client:
    """Return a client with the limits of `operator` for the API at `address`."""
    endpoint = Endpoint(
        url=address.url,
        username=username,
        password=password.get_secret_value() if password else "",
        timeout_s=operator.timeout_s,
        body_limit_bytes=operator.body_limit_bytes,
        concurrency=operator.concurrency,
        ca_file=Path(address.ca_file) if address.ca_file else None,
        allow_plain_http=address.allow_plain_http,
    )
    return Client(endpoint, clock)
