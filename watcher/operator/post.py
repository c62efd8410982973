"""The values of the submit stage: a task that may be answered, and a request on its way to an API."""

from dataclasses import dataclass

from watcher.ledger.sending import Attempt
from watcher.operator.request import Request
from watcher.operator.route import Route
from watcher.task import Header, OpenTask


@dataclass(frozen=True, slots=True)
class Cleared:
    """A claimed task that the chain shows without a response and within its window, at block `at`.

    `chain_moves` is the ledger's count when the reading began, `read_s` the monotonic time at which it arrived.
    """

    task: OpenTask
    at: Header
    chain_moves: int
    read_s: float


@dataclass(frozen=True, slots=True)
class Draft:
    """The request for a cleared task, and its route. `left_s`: seconds to the deadline; None: no deadline."""

    cleared: Cleared
    route: Route
    request: Request
    left_s: float | None


@dataclass(frozen=True, slots=True)
class Post:
    """A request whose attempt is in the ledger, since the monotonic time `begun_s`. It may be sent."""

    attempt: Attempt
    draft: Draft
    begun_s: float
