"""The ways to send, from the settings: which API, how its request is built, and what is known of its health."""

from collections.abc import Callable
from random import SystemRandom

from watcher.chain.contract import TaskManager
from watcher.clock import Clock
from watcher.operator.circuit import Circuit
from watcher.operator.request import Request, operator_request, proxy_request
from watcher.operator.route import UNREACHED_LIMIT, BuildRequest, Route, Router, Sender
from watcher.settings.model import Settings
from watcher.task import OpenTask

_NO_PROXY = (
    "the proxy API builds the wizard's call and no other; "
    'set operator.api = "operator", or configure [operator.direct]'
)


def router_maker(
    contract: TaskManager, sender: Sender, direct: Sender | None, clock: Clock
) -> Callable[[Settings], Router]:
    """What makes the routes for settings, again and again: what is known of an API's health outlives a reload."""
    circuits: dict[str, Circuit] = {}

    def route(settings: Settings, role: str, to: Sender, api: str, build: BuildRequest) -> Route:
        operator = settings.operator
        if role not in circuits:
            circuits[role] = Circuit(
                clock, SystemRandom().random, max_s=operator.retry_max_s * 5, probe_s=2 * operator.timeout_s + 1
            )
        circuits[role].unreached_limit = UNREACHED_LIMIT if operator.failover else None
        return Route(api, to, build, circuits[role])

    def router(settings: Settings) -> Router:
        operator = settings.operator
        own = operator.api == "operator"
        build = _operator_call(settings, contract, operator.avs_name) if own else _proxy_call(settings, contract)
        other = None
        if direct is not None and operator.direct.url:
            build_other = _operator_call(settings, contract, operator.direct.avs_name)
            other = route(settings, "direct", direct, "operator", build_other)
        return Router(
            route(settings, "main", sender, operator.api, build),
            other,
            is_proxy=not own,
            quorum_numbers=bytes(operator.expected_quorum_numbers),
            threshold=operator.expected_threshold,
            unusable="" if own or contract.convention.has_proxy else _NO_PROXY,
            failover=operator.failover,
        )

    return router


def _proxy_call(settings: Settings, contract: TaskManager) -> BuildRequest:
    """How a task becomes a request to the proxy API."""
    operator = settings.operator

    def request(held: OpenTask, request_id: int) -> Request:
        assert held.response is not None, "only what is computed is sent"
        call = contract.convention.call(held.task, held.response)
        return proxy_request(
            held.task,
            held.response,
            method=operator.method or call.method,
            request_id=request_id,
            params_style=operator.params_style,
            sig_hash=call.sig_hash,
        )

    return request


def _operator_call(settings: Settings, contract: TaskManager, avs_name: str) -> BuildRequest:
    """How a task becomes a request to the operator API."""
    operator = settings.operator

    def request(held: OpenTask, request_id: int) -> Request:
        assert held.response is not None, "only what is computed is sent"
        return operator_request(
            contract.convention.call(held.task, held.response),
            avs_name=avs_name,
            request_id=request_id,
            method=operator.method,
            params_style=operator.params_style,
        )

    return request
