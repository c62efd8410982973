"""The routes of an answer, from [operator]: which API, how its request is built, and what is known of its health."""

from collections.abc import Callable
from random import SystemRandom

from watcher.chain.contract import TaskManager
from watcher.chain.convention.proxy_call import proxy_builds
from watcher.clock import Clock
from watcher.operator.circuit import Circuit
from watcher.operator.request import Request, operator_request, proxy_request
from watcher.operator.route import UNREACHED_LIMIT, BuildRequest, Route, Router, Sender
from watcher.settings.operator import Operator
from watcher.task import OpenTask

_NO_PROXY = (
    "the proxy API builds the wizard's call and no other; "
    'set operator.api = "operator", or configure [operator.direct]'
)


class RouterMaker:
    """Makes the routes for an [operator]; an API's circuit outlives a reload."""

    def __init__(
        self,
        contract: TaskManager,
        main: Sender,
        direct: Sender | None,
        clock: Clock,
        built: Callable[[OpenTask, Request], None] = lambda _task, _request: None,
    ) -> None:
        """Keep the parts.

        Args:
            contract: encodes the call.
            main: sends to the API of [operator].
            direct: sends to the API of [operator.direct]; None: there is none.
            clock: the time of the circuits.
            built: takes each request with its task.
        """
        self._contract = contract
        self._main = main
        self._direct = direct
        self._clock = clock
        self._built = built
        self._circuits: dict[str, Circuit] = {}

    @property
    def next_attempt_s(self) -> float | None:
        """Return the seconds until a request tries an API with an open circuit, None while every circuit is closed."""
        return min((circuit.wait_s() for circuit in self._circuits.values() if not circuit.closed), default=None)

    def __call__(self, operator: Operator) -> Router:
        """Return the routes for an [operator]."""
        own = operator.api == "operator"
        contract = self._contract
        build = _operator_call(operator, contract, operator.avs_name) if own else _proxy_call(operator, contract)
        other = None
        if self._direct is not None and operator.direct.url:
            build_other = _operator_call(operator, contract, operator.direct.avs_name)
            other = self._route(operator, "direct", self._direct, "operator", build_other)
        return Router(
            self._route(operator, "main", self._main, operator.api, build),
            other,
            is_proxy=not own,
            quorum_numbers=bytes(operator.expected_quorum_numbers),
            threshold=operator.expected_threshold,
            unusable="" if own or proxy_builds(contract.convention) else _NO_PROXY,
            failover=operator.failover,
        )

    def _route(self, operator: Operator, role: str, sender: Sender, api: str, build: BuildRequest) -> Route:
        if role not in self._circuits:
            self._circuits[role] = Circuit(
                self._clock, SystemRandom().random, max_s=operator.retry_max_s * 5, probe_s=2 * operator.timeout_s + 1
            )
        self._circuits[role].follow(UNREACHED_LIMIT if operator.failover else None)

        def built(task: OpenTask, request_id: int) -> Request:
            request = build(task, request_id)
            self._built(task, request)
            return request

        return Route(api, sender, built, self._circuits[role])


def _proxy_call(operator: Operator, contract: TaskManager) -> BuildRequest:
    """Return a function that builds a task's request to the proxy API."""
    convention = contract.convention

    def request(task: OpenTask, request_id: int) -> Request:
        assert task.response is not None, "only what is computed is sent"
        return proxy_request(
            task.task,
            task.response,
            method=operator.method or convention.method,
            request_id=request_id,
            params_style=operator.params_style,
            sig_hash=convention.digest(task.task, task.response),
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
