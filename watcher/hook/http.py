"""Services as hooks, `http://` and `https://`: a POST for each task, request and reply as in `watcher.hook.schema`.

Invariant: a reply is hostile. Whatever a service sends, or does not send, costs only the task that it was asked for. No
message holds a part of a URL that may be secret.
"""

import asyncio
import re
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from watcher.errors import AttemptFailed, FixConfiguration, TryLater
from watcher.hook import schema
from watcher.hook.http_client import HttpClient, Unreachable, try_connection
from watcher.hook.plan import PoolPlan
from watcher.hook.services import Service, ServicePool, warn_of_plain_text
from watcher.hook.target import setting
from watcher.hook.values import Values, ValueTypes
from watcher.redact import show_url
from watcher.task import Later, Response, Skip, Task

TARGET = re.compile(r"https?://", re.IGNORECASE)

_SEPARATOR = re.compile(r"[\s,]+")
_REDIRECTS = range(300, 400)
# "Not now", by the service's own word (RFC 6585, RFC 9110). Other failures are the task's: a proxy says 502 and 504
# also if the task has killed the service.
_BUSY = (429, 503)


class _TakesNone(Exception):
    """The service takes no task now; another one can take it."""


class HttpRunner:
    """The services of a hook; the `Runner` for URLs.

    At most `plan.workers` requests are under way. Cancelling a run closes its connection.
    """

    def __init__(self, target: str, plan: PoolPlan) -> None:
        self._target = target
        self._plan = plan
        self._values = Values(plan.types)
        self._services = ServicePool(_services(target), lambda: asyncio.get_running_loop().time())
        self._room = asyncio.Semaphore(plan.workers)
        self._client: HttpClient | None = None
        self.exposed = ""

    @property
    def version(self) -> str:
        """Return the public part of each URL, with the version that the service gave itself."""
        return ", ".join(service.version() for service in self._services.services)

    async def __aenter__(self) -> Self:
        """Open the client, and check that a service can be reached.

        Raises:
            TryLater: none can be reached now.
        """
        self._client = HttpClient(self._plan.workers, schema.reply_limit_bytes(self._plan.answer_limit_bytes))
        try:
            await self._reach()
        except BaseException:
            await self._client.close()
            raise
        self._warn_of_plain_http()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def run(self, task: Task) -> Response | Skip | Later:
        """Return the verdict of a service on one task.

        Raises:
            AttemptFailed: a service was asked and gave no answer, or the message does not decode.
            TryLater: no service can be reached now, or all are busy; the task is not at fault.
        """
        async with self._room:
            began_s = asyncio.get_running_loop().time()
            service, reply = await self._ask_any(task)
        if isinstance(reply.answer, Skip | Later):
            return reply.answer
        duration_ms = round((asyncio.get_running_loop().time() - began_s) * 1000)
        return Response(reply.answer, f"{service.name} {reply.code_version}".strip(), duration_ms)

    async def reload(self, types: ValueTypes | None = None) -> tuple[str, str]:
        """Accept the versions that the services give themselves now; return the old names and the new ones.

        New `types` hold for the requests from now on.

        Raises:
            TryLater: no service can be reached now.
        """
        before = self.version
        await self._reach()
        self._values = self._values if types is None else Values(types)
        self._services.accept_versions()
        return before, self.version

    async def changed_files(self) -> str:
        """Return the services whose version is another than at the start or the last reload; "" without one."""
        return self._services.changed()

    async def _ask_any(self, task: Task) -> tuple[Service, schema.Reply]:
        tried: list[Service] = []
        reason = "all of them rest after failures"
        try:
            async with asyncio.timeout(self._plan.timeout_s):
                while service := self._services.choose(tried):
                    tried.append(service)
                    try:
                        return service, await self._ask(service, task)
                    except _TakesNone as error:
                        reason = str(error)
        except TimeoutError:
            self._services.delay(tried[-1])
            raise AttemptFailed(
                f"the service took longer than timeout_s = {self._plan.timeout_s:g} s; the request was cancelled"
            ) from None
        raise TryLater(f"{setting(self._target)}: no service takes a task now: {reason}")

    async def _ask(self, service: Service, task: Task) -> schema.Reply:
        assert self._client is not None, "runs come while the runner is entered"
        request_id = schema.new_id()
        body = schema.write_request(request_id, task, self._values)
        service.in_flight += 1
        try:
            status, content = await self._client.post(service.url, body)
        except Unreachable as error:
            self._services.rest(service, str(error))
            raise _TakesNone(f"{service.name}: {error}") from None
        finally:
            service.in_flight -= 1
        if status in _BUSY:
            self._services.delay(service)
            raise _TakesNone(f"{service.name} is busy (HTTP status {status})")
        service.answered("")
        if status in _REDIRECTS:
            raise AttemptFailed(f"the service redirects (HTTP status {status}); name the final URL in hook.target")
        if status != 200:
            raise AttemptFailed(f"the service replied with HTTP status {status}; a verdict comes with 200")
        reply = schema.read_reply(content, request_id, self._plan.answer_limit_bytes, self._values)
        service.answered(reply.code_version)
        return reply

    async def _reach(self) -> None:
        """Check that one service accepts a connection.

        Raises:
            TryLater: none does.
        """
        reasons = await asyncio.gather(*(_failure(service) for service in self._services.services))
        if all(reasons):
            raise TryLater(f"{setting(self._target)}: no service can be reached: {'; '.join(reasons)}")

    def _warn_of_plain_http(self) -> None:
        for service in self._services.services:
            url = urlsplit(service.url)
            if url.scheme.lower() == "http":
                warn_of_plain_text(service.name, url.hostname or "")


def _services(target: str) -> list[Service]:
    """Return the services of a target: URLs with spaces or commas between them.

    Raises:
        FixConfiguration: it holds something else.
    """
    urls = [url for url in _SEPARATOR.split(target) if url]
    for url in urls:
        try:
            is_url = bool(TARGET.match(url)) and bool(urlsplit(url).hostname) and urlsplit(url).port != 0
        except ValueError:
            is_url = False
        if not is_url:
            raise FixConfiguration(f"{setting(target)}: is not a list of http:// or https:// URLs")
    return [Service(url, show_url(url).rstrip("/")) for url in dict.fromkeys(urls)]


async def _failure(service: Service) -> str:
    """Return why no connection to a service can be made; "" if it can."""
    try:
        await try_connection(service.url)
    except Unreachable as error:
        return f"{service.name}: {error}"
    return ""
