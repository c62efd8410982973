"""The routes of an answer, from [operator]: which API, how its request is built, and what is known of its health."""

from collections.abc import Callable
from random import SystemRandom

from watcher.chain.contract import TaskManager
from watcher.clock import Clock
from watcher.operator.circuit import Circuit
from watcher.operator.request import Request, operator_request, proxy_request
from watcher.operator.route import UNREACHED_LIMIT, BuildRequest, Route, Router, Sender
from watcher.settings.operator import Operator
from watcher.task import OpenTask

MakeRouter = Callable[[Operator], Router]

_NO_PROXY = (
    "the proxy API builds the wizard's call and no other; "
    'set operator.api = "operator", or configure [operator.direct]'
)


def router_maker(contract: TaskManager, main: Sender, direct: Sender | None, clock: Clock) -> MakeRouter:
    """Return a function that makes the routes for an [operator]; an API's circuit outlives a reload.

    Args:
        contract: encodes the call.
        main: sends to the API of [operator].
        direct: sends to the API of [operator.direct]; None: there is none.
        clock: the time of the circuits.
    """
    circuits: dict[str, Circuit] = {}

    def route(operator: Operator, role: str, sender: Sender, api: str, build: BuildRequest) -> Route:
        if role not in circuits:
            circuits[role] = Circuit(
                clock, SystemRandom().random, max_s=operator.retry_max_s * 5, probe_s=2 * operator.timeout_s + 1
            )
        circuits[role].follow(UNREACHED_LIMIT if operator.failover else None)
        return Route(api, sender, build, circuits[role])

    def make_router(operator: Operator) -> Router:
        own = operator.api == "operator"
        build = _operator_call(operator, contract, operator.avs_name) if own else _proxy_call(operator, contract)
        other = None
        if direct is not None and operator.direct.url:
            build_other = _operator_call(operator, contract, operator.direct.avs_name)
            other = route(operator, "direct", direct, "operator", build_other)
        return Router(
            route(operator, "main", main, operator.api, build),
            other,
            is_proxy=not own,
            quorum_numbers=bytes(operator.expected_quorum_numbers),
            threshold=operator.expected_threshold,
            unusable="" if own or contract.convention.has_proxy else _NO_PROXY,
            failover=operator.failover,
        )

    return make_router


def _proxy_call(operator: Operator, contract: TaskManager) -> BuildRequest:
    """Return a function that builds a task's request to the proxy API."""

    def request(task: OpenTask, request_id: int) -> Request:
        assert task.response is not None, "only what is computed is sent"
        call = contract.convention.call(task.task, task.response)
        return proxy_request(
            task.task,
            task.response,
            method=operator.method or call.method,
            request_id=request_id,
            params_style=operator.params_style,
            sig_hash=call.sig_hash,
        )

    return request


def _operator_call(operator: Operator, contract: TaskManager, avs_name: str) -> BuildRequest:
    """Return a function that builds a task's request to the operator API."""

    def request(task: OpenTask, request_id: int) -> Request:
        assert task.response is not None, "only what is computed is sent"
        return operator_request(
            contract.convention.call(task.task, task.response),
            avs_name=avs_name,
            request_id=request_id,
            method=operator.method,
            params_style=operator.params_style,
        )

    return request
