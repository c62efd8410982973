"""The callables that stages are handed, with a step of the trace before and behind each call."""

from collections import OrderedDict
from collections.abc import Sequence

from watcher.hook.respond import RunHook
from watcher.operator.request import Request
from watcher.operator.route import Sender
from watcher.task import Later, OpenTask, Resolve, Response, Sent, Skip, Task, Verdict
from watcher.trace import Trace

_REQUESTS = 1000  # whose tasks are remembered


def traced_hook(run_hook: RunHook, trace: Trace) -> RunHook:
    """Return `run_hook` between the steps `claimed` and `answered`."""

    async def run(task: Task) -> Response | Skip | Later:
        trace.step("claimed", [task.task_index])
        answer = await run_hook(task)
        trace.step("answered", [task.task_index])
        return answer

    return run


def traced_resolve(resolve: Resolve, trace: Trace) -> Resolve:
    """Return `resolve` between the steps `computed` and `resolved`, for tasks that were not sent before."""

    async def resolved(tasks: Sequence[OpenTask]) -> Sequence[Verdict]:
        indices = [task.task.task_index for task in tasks if not task.attempts]
        trace.step("computed", indices)
        verdicts = await resolve(tasks)
        trace.step("resolved", indices)
        return verdicts

    return resolved


class TracedRequests:
    """The requests of the routes: each sender logs the steps `begun` and `replied` for the task of a request."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._indices: OrderedDict[bytes, int] = OrderedDict()

    def built(self, task: OpenTask, request: Request) -> None:
        """Remember the task of a request by its digest."""
        if self._trace.on:
            self._indices[request.digest] = task.task.task_index
            if len(self._indices) > _REQUESTS:
                self._indices.popitem(last=False)

    def sender(self, sender: Sender) -> Sender:
        """Return `sender` with the steps around it."""
        return _TracedSender(sender, self)

    def step(self, name: str, request: Request) -> None:
        """Log a step of the task of a request."""
        if request.digest in self._indices:
            self._trace.step(name, [self._indices[request.digest]])


class _TracedSender:
    """A Sender with the steps around it."""

    def __init__(self, sender: Sender, requests: TracedRequests) -> None:
        self._sender = sender
        self._requests = requests

    async def send(self, request: Request) -> Sent:
        self._requests.step("begun", request)
        sent = await self._sender.send(request)
        self._requests.step("replied", request)
        return sent
