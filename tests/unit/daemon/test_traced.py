"""The callables of a traced daemon log a step before and behind each call, and pass everything through."""

from unittest.mock import Mock

from tests.conformance.rig import make_task, sent
from watcher.daemon.traced import TracedRequests, traced_hook, traced_resolve
from watcher.operator.request import Request, probe_request
from watcher.state import State
from watcher.task import Accepted, Header, NotYet, OpenTask, Response, Sent
from watcher.trace import Trace

TASK = make_task(7)
OPEN_TASK = OpenTask(1, TASK, State.COMPUTED, 1, 0, 0, b"answer")
AT = Header(110, bytes(32), bytes(32))


def traced() -> tuple[Trace, list[tuple[str, list[int]]]]:
    trace, steps = Trace(on=True), []
    trace.step = Mock(side_effect=lambda name, indices: steps.append((name, list(indices))))  # type: ignore[method-assign]
    return trace, steps


async def test_hook_run_lies_between_claimed_and_answered() -> None:
    trace, steps = traced()

    async def run_hook(task: object) -> Response:
        assert task is TASK
        steps.append(("hook", [7]))
        return Response(b"answer", "hook 1", 1)

    assert await traced_hook(run_hook, trace)(TASK) == Response(b"answer", "hook 1", 1)
    assert steps == [("claimed", [7]), ("hook", [7]), ("answered", [7])]


async def test_verdict_lies_between_computed_and_resolved() -> None:
    trace, steps = traced()

    async def resolve(tasks: object) -> list[NotYet]:
        return [NotYet(AT)]

    assert await traced_resolve(resolve, trace)([OPEN_TASK]) == [NotYet(AT)]
    assert steps == [("computed", [7]), ("resolved", [7])]


async def test_post_of_a_built_request_lies_between_begun_and_replied() -> None:
    trace, steps = traced()
    requests, outcome = TracedRequests(trace), sent(Accepted(bytes(32), bytes(32)))

    class Api:
        async def send(self, request: Request) -> Sent:
            return outcome

    request = probe_request(1)
    sender = requests.sender(Api())
    assert await sender.send(request) is outcome
    assert steps == [], "no task is known for it"
    requests.built(OPEN_TASK, request)
    assert await sender.send(request) is outcome
    assert steps == [("begun", [7]), ("replied", [7])]
