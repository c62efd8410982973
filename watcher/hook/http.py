"""Services as hooks, `http://` and `https://`: a POST for each task, request and reply as in `watcher.hook.schema`.

Invariant: a reply is hostile. Whatever a service sends, or does not send, costs only the task that it was asked for. No
message holds a part of a URL that may be secret.
"""

import asyncio
import base64
import errno
import os
import re
import ssl
from types import SimpleNamespace, TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp

from watcher.errors import AttemptFailed, FixConfiguration, TryLater
from watcher.files import program_version
from watcher.hook import schema
from watcher.hook.plan import PoolPlan
from watcher.hook.services import Service, ServicePool, warn_of_plain_text
from watcher.hook.target import setting
from watcher.hook.values import Values, ValueTypes
from watcher.redact import show_url
from watcher.task import Later, Response, Skip, Task
from watcher.text import clean

TARGET = re.compile(r"https?://", re.IGNORECASE)

_CONNECT_S = 5.0
_SEPARATOR = re.compile(r"[\s,]+")
_REDIRECTS = range(300, 400)
# "Not now", by the service's own word (RFC 6585, RFC 9110). Other failures are the task's: a proxy says 502 and 504
# also if the task has killed the service.
_BUSY = (429, 503)


class Unreachable(Exception):
    """The request did not reach the service, or the service is busy; another one can take the task."""


class _Connector(aiohttp.TCPConnector):
    """The kept connections. One on which bytes came between two requests is closed: they are no reply to the next."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Return a connection for a request."""
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


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
        self._limit_bytes = schema.reply_limit_bytes(plan.answer_limit_bytes)
        self._session: aiohttp.ClientSession | None = None
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
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=_Connector(limit=self._plan.workers),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": f"avs-task-watcher/{program_version()}",
            },
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            trace_configs=[trace],
            trust_env=False,
        )
        try:
            await self._reach()
        except BaseException:
            await self._session.close()
            raise
        self._warn_of_plain_http()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

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
                    except Unreachable as error:
                        reason = str(error)
        except TimeoutError:
            self._services.delay(tried[-1])
            raise AttemptFailed(
                f"the service took longer than timeout_s = {self._plan.timeout_s:g} s; the request was cancelled"
            ) from None
        raise TryLater(f"{setting(self._target)}: no service takes a task now: {reason}")

    async def _ask(self, service: Service, task: Task) -> schema.Reply:
        request_id = schema.new_id()
        body = schema.write_request(request_id, task, self._values)
        service.in_flight += 1
        try:
            status, content = await self._post(service, body)
        finally:
            service.in_flight -= 1
        if status in _BUSY:
            self._services.delay(service)
            raise Unreachable(f"{service.name} is busy (HTTP status {status})")
        service.answered("")
        if status in _REDIRECTS:
            raise AttemptFailed(f"the service redirects (HTTP status {status}); name the final URL in hook.target")
        if status != 200:
            raise AttemptFailed(f"the service replied with HTTP status {status}; a verdict comes with 200")
        reply = schema.read_reply(content, request_id, self._plan.answer_limit_bytes, self._values)
        service.answered(reply.code_version)
        return reply

    async def _post(self, service: Service, body: bytes) -> tuple[int, bytes]:
        """Return status and content. A connection that the service had closed before the request is replaced.

        Raises:
            Unreachable: the request did not reach the service.
            AttemptFailed: it did, and the reply is not whole.
        """
        for _ in range(self._plan.workers + 1):
            context = SimpleNamespace(reused=False)
            try:
                return await self._post_once(service, body, context)
            except aiohttp.ClientConnectorError as error:
                reason = _why(error)
                self._services.rest(service, reason)
                raise Unreachable(f"{service.name}: {reason}") from None
            except aiohttp.ConnectionTimeoutError:
                reason = f"no connection within {_CONNECT_S:g} s"
                self._services.rest(service, reason)
                raise Unreachable(f"{service.name}: {reason}") from None
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not context.reused:
                    break
            except (aiohttp.ClientError, ValueError) as error:
                raise AttemptFailed(f"the service's reply is not whole, or not HTTP ({type(error).__name__})") from None
        raise AttemptFailed("the service closed the connection without a reply")

    async def _post_once(self, service: Service, body: bytes, context: SimpleNamespace) -> tuple[int, bytes]:
        assert self._session is not None
        url, authorization = _without_credentials(service.url)
        async with self._session.post(
            url, data=body, headers=authorization, allow_redirects=False, trace_request_ctx=context
        ) as response:
            if response.status != 200:
                response.close()
                return response.status, b""
            if (packed := response.headers.get("Content-Encoding", "identity")).lower() != "identity":
                response.close()
                raise AttemptFailed(
                    f"the service's reply is packed (Content-Encoding: {clean(packed, 40)}); send it plain"
                )
            content = bytearray()
            async for part in response.content.iter_any():
                content += part
                if len(content) > self._limit_bytes:
                    response.close()
                    raise AttemptFailed(f"the service's reply is longer than {self._limit_bytes:,} bytes")
            return response.status, bytes(content)

    async def _reach(self) -> None:
        """Check that one service accepts a connection.

        Raises:
            TryLater: none does.
        """
        reasons = await asyncio.gather(*(_connect(service) for service in self._services.services))
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


async def _connect(service: Service) -> str:
    """Return why no connection to a service can be made; "" if it can."""
    url = urlsplit(service.url)
    is_secure = url.scheme.lower() == "https"
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(
                url.hostname, url.port or (443 if is_secure else 80), ssl=is_secure or None
            )
        writer.transport.abort()
    except TimeoutError:
        return f"{service.name}: no connection within {_CONNECT_S:g} s"
    except (OSError, ValueError) as error:
        return f"{service.name}: {_why(error)}"
    return ""


def _without_credentials(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL without its user, and the header that carries the user and the password (RFC 7617)."""
    parts: SplitResult = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    name, _, password = user.partition(":")
    token = base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
    return parts._replace(netloc=place).geturl(), {"Authorization": f"Basic {token}"}


async def _note_reuse(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:
    context.trace_request_ctx.reused = True


def _why(error: Exception) -> str:
    """Return the reason of a failed connection, without the URL that the library's own text holds."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {clean(cause.verify_message, 200)}"
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno in errno.errorcode:
        return os.strerror(cause.errno)  # asyncio's own text repeats the address
    if isinstance(cause, OSError) and cause.strerror:
        return clean(cause.strerror, 200)
    return f"no connection ({type(cause).__name__})"
