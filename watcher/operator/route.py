"""The choice between the hosted operator's APIs for one task. Pure, except that `choose` reads the circuits.

A request to the proxy API has no quorum fields: the proxy fills them in from its own configuration. It accepts a task
with other quorum fields too, and the contract then refuses its transaction. Such a task goes to the operator API
("direct"), or is parked.

Invariants: every route sends the answer that the ledger stores, so a change of API never brings a second answer; a
route is chosen only right after the chain has shown that the task has no response.
"""

from collections.abc import Callable, Collection, Set
from dataclasses import dataclass
from typing import Protocol

from watcher.operator.circuit import Circuit
from watcher.operator.request import Request
from watcher.task import OpenTask, Sent, Task

# Prefixes of `error` in the ledger, by which `make_due` selects. A parked task waits for another configuration,
PARKED_MARK = "parked: "
# a held task waits for its API,
HELD_MARK = "held back: "
# and the request of the last attempt did not leave (texts of client and submit stage).
NOT_SENT_MARK = "not sent: "
# Requests in a row that do not reach an API before its tasks fail over to the other one.
UNREACHED_LIMIT = 3
# Replies of a gateway that cannot reach the API behind it.
_GATEWAY_STATUS = frozenset({502, 503, 504})
# Seconds until a task is looked at again while another one is its API's probe.
_PROBING_S = 1.0

BuildRequest = Callable[[OpenTask, int], Request]
Quorums = tuple[bytes, int]  # quorum numbers, threshold in percent


class Sender(Protocol):
    """A client that sends requests and returns outcomes; it raises nothing for what network or API do."""

    async def send(self, request: Request) -> Sent: ...


@dataclass(frozen=True, slots=True)
class Route:
    """One API: its name in the ledger (`api`), its client, its circuit, and the builder of its requests.

    `build` takes the task and the number of the attempt.
    """

    api: str
    sender: Sender
    build: BuildRequest
    circuit: Circuit


@dataclass(frozen=True, slots=True)
class Parked:
    """No configured API can serve the task. `reason` begins with PARKED_MARK."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The task's API refuses requests or cannot be reached; try again after `after_s` seconds."""

    after_s: float


Choice = Route | Parked | Hold


@dataclass(frozen=True, slots=True)
class Router:
    """The configured routes, and the tasks that `main` can serve.

    Attributes:
        main: the route of [operator].
        direct: the route of [operator.direct], if it is configured.
        is_proxy: `main` is the proxy API.
        quorum_numbers: those the proxy is configured with; empty: unknown.
        threshold: the one the proxy is configured with, in percent; 0: unknown.
        unusable: why `main` can serve no task of this contract; empty: it can.
        failover: `direct` takes the tasks of `main` while that is unavailable.
    """

    main: Route
    direct: Route | None = None
    is_proxy: bool = False
    quorum_numbers: bytes = b""
    threshold: int = 0
    unusable: str = ""
    failover: bool = False

    @property
    def routes(self) -> tuple[Route, ...]:
        return (self.main,) if self.direct is None else (self.main, self.direct)

    @property
    def learns(self) -> bool:
        """Return True if the settings do not name the proxy's quorums, so that only its successes show them."""
        return self.is_proxy and not self.quorum_numbers and not self.threshold

    @property
    def some_closed(self) -> bool:
        return any(route.circuit.closed for route in self.routes)

    def wait_s(self) -> float:
        """Return the seconds until any API may be tried; 0: now."""
        return min(route.circuit.wait_s() for route in self.routes)


def choose(task: Task, router: Router, served: Set[Quorums] = frozenset(), probing: Collection[str] = ()) -> Choice:
    """Return where a task goes now.

    Args:
        task: the task to be answered.
        router: the APIs and their rules.
        served: the quorums of tasks that the proxy has served; empty: none yet. This is a guess: it decides between
            two available APIs, and never parks a task.
        probing: the APIs with an open circuit that this batch probes already, by name.
    """
    main, direct = router.main, router.direct
    if (reason := unserved(task, router)) is not None:
        return Parked(reason) if direct is None else _route_or_hold(direct, probing)
    if direct is not None and is_untried(task, router, served):
        return _route_or_hold(direct, probing)
    choice = _route_or_hold(main, probing)
    if isinstance(choice, Hold) and router.failover and direct is not None:
        other = _route_or_hold(direct, probing)
        return other if isinstance(other, Route) else Hold(min(choice.after_s, other.after_s))
    return choice


def unserved(task: Task, router: Router) -> str | None:
    """Return why the proxy, as configured, cannot serve the task; None: it can."""
    if not router.is_proxy:
        return None
    if router.unusable:
        return PARKED_MARK + router.unusable
    differs = []
    if router.quorum_numbers and task.quorum_numbers != router.quorum_numbers:
        differs.append(f"quorum numbers {list(task.quorum_numbers)}, not {list(router.quorum_numbers)}")
    if router.threshold and task.quorum_threshold != router.threshold:
        differs.append(f"threshold {task.quorum_threshold} %, not {router.threshold} %")
    if not differs:
        return None
    return (
        f"{PARKED_MARK}the task has {' and '.join(differs)}, so the contract would refuse the proxy's call; "
        "configure [operator.direct], or correct [operator] expected_quorum_numbers and expected_threshold"
    )


def is_untried(task: Task, router: Router, served: Set[Quorums]) -> bool:
    """Return True if the proxy has served tasks, but none with the quorums of this one."""
    return router.learns and bool(served) and (task.quorum_numbers, task.quorum_threshold) not in served


def api_replied(sent: Sent) -> bool:
    """Return True if the API itself replied, and not a gateway in front of it."""
    return sent.http_status is not None and sent.http_status not in _GATEWAY_STATUS


def _route_or_hold(route: Route, probing: Collection[str]) -> Route | Hold:
    if route.circuit.closed:
        return route
    if (wait_s := route.circuit.wait_s()) > 0:
        return Hold(wait_s)
    return Hold(_PROBING_S) if route.api in probing else route
