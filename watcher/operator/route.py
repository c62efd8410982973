"""Which of the hosted operator's APIs a task goes to. `choose` is pure but for what it reads of the circuits.

The proxy API is told nothing of quorums: it fills them in from its own configuration. For a task made with others it
says yes, and the contract refuses its transaction. Such a task goes to the operator API ("direct"), or nowhere.

Invariants: every route carries the same stored answer, so that going over to the other API can never bring a second
one; a route is chosen for a task only right after the chain has shown that it is not answered.
"""

from collections.abc import Callable, Collection, Set
from dataclasses import dataclass
from typing import Protocol

from watcher.operator.circuit import Circuit
from watcher.operator.request import Request
from watcher.task import OpenTask, Sent, Task

# What a parked task's words begin with: by it they are found again when the configuration has changed.
PARKED_MARK = "parked: "
# And those of a task that only waits for its API: they go out as soon as that takes requests again.
HELD_MARK = "held back: "
# What did not even leave, as the client and the submitter put it.
NOT_SENT_MARK = "not sent: "
# Requests in a row that did not reach the API before tasks go over to the other one.
UNREACHED_LIMIT = 3
# A gateway says these of an API it cannot reach.
_GATEWAY_STATUS = frozenset({502, 503, 504})

BuildRequest = Callable[[OpenTask, int], Request]
Quorums = tuple[bytes, int]


class Sender(Protocol):
    """What sends a request and tells what came of it, without ever raising for what the network does."""

    async def send(self, request: Request) -> Sent: ...


@dataclass(frozen=True, slots=True)
class Route:
    """One API: `api` is its name in the ledger, `build` makes its request from a task and a number."""

    api: str
    sender: Sender
    build: BuildRequest
    circuit: Circuit


@dataclass(frozen=True, slots=True)
class Parked:
    """No API there is can serve the task, until a person changes something. `why` says what."""

    why: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The API refuses us or cannot be reached: ask again after so many seconds."""

    after_s: float


Choice = Route | Parked | Hold


@dataclass(frozen=True, slots=True)
class Router:
    """The routes there are, and what the first one can serve.

    `quorum_numbers` (empty: any) and `threshold` (0: any) are what the proxy is configured with, `guards` whether
    `main` is the proxy at all, `cannot` why it can serve no task of this contract, if so. `failover` sends to `direct`
    what `main` could serve, while `main` is not to be had.
    """

    main: Route
    direct: Route | None = None
    guards: bool = False
    quorum_numbers: bytes = b""
    threshold: int = 0
    cannot: str = ""
    failover: bool = False

    @property
    def routes(self) -> tuple[Route, ...]:
        return (self.main,) if self.direct is None else (self.main, self.direct)

    @property
    def learns(self) -> bool:
        """Whether nobody has said what the proxy is configured with, so that only its successes tell."""
        return self.guards and not self.quorum_numbers and not self.threshold

    @property
    def all_closed(self) -> bool:
        return all(route.circuit.closed for route in self.routes)

    @property
    def some_closed(self) -> bool:
        return any(route.circuit.closed for route in self.routes)

    def wait_s(self) -> float:
        """Seconds until any API may be tried; 0 when one may be now."""
        return min(route.circuit.wait_s() for route in self.routes)


def choose(task: Task, router: Router, learned: Set[Quorums] = frozenset(), probing: Collection[str] = ()) -> Choice:
    """Where the task goes now.

    Args:
        task: what is to be answered.
        router: the APIs and their rules.
        learned: the quorum fields the proxy has served so far; empty until there are any. A guess: it decides between
            two APIs that can both be had, and never keeps a task back.
        probing: the APIs in doubt that this very batch tries already, one task each.
    """
    main, direct = router.main, router.direct
    if (why := unserved(task, router)) is not None:
        return Parked(why) if direct is None else _when_open(direct, probing)
    if direct is not None and is_strange(task, router, learned):
        return _when_open(direct, probing)
    chosen = _when_open(main, probing)
    if isinstance(chosen, Hold) and router.failover and direct is not None:
        other = _when_open(direct, probing)
        return other if isinstance(other, Route) else Hold(min(chosen.after_s, other.after_s))
    return chosen


def unserved(task: Task, router: Router) -> str | None:
    """Why the proxy, as configured, cannot serve the task; None when it can."""
    if not router.guards:
        return None
    if router.cannot:
        return PARKED_MARK + router.cannot
    differs = []
    if router.quorum_numbers and task.quorum_numbers != router.quorum_numbers:
        differs.append(f"quorum numbers {list(task.quorum_numbers)}, not {list(router.quorum_numbers)}")
    if router.threshold and task.quorum_threshold != router.threshold:
        differs.append(f"threshold {task.quorum_threshold} %, not {router.threshold} %")
    if not differs:
        return None
    return (
        f"{PARKED_MARK}the task was made with {' and '.join(differs)}, so the contract would refuse what the proxy "
        "makes of it; configure [operator.direct], or correct [operator] expected_quorum_numbers and expected_threshold"
    )


def is_strange(task: Task, router: Router, learned: Set[Quorums]) -> bool:
    """Whether the proxy has served tasks, and never one with these quorum fields."""
    return router.learns and bool(learned) and (task.quorum_numbers, task.quorum_threshold) not in learned


def reached(sent: Sent) -> bool:
    """Whether it was the API that answered, and not the network or a gateway in its place."""
    return sent.http_status is not None and sent.http_status not in _GATEWAY_STATUS


def _when_open(route: Route, probing: Collection[str]) -> Route | Hold:
    if route.circuit.closed:
        return route
    if (wait_s := route.circuit.wait_s()) > 0:
        return Hold(wait_s)
    return Hold(1.0) if route.api in probing else route
