"""The HTTP client of the hosted operator API, and the only file that knows httpx.

Invariant: what the network does becomes a value, never an exception; and "certainly not sent" is said only where no
connection came about.
"""

import asyncio
import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from watcher.clock import Clock
from watcher.operator import probe, refusal
from watcher.operator.endpoint import Endpoint
from watcher.operator.probe import Probe, tcp_probe
from watcher.operator.reply import parse, retry_after_s
from watcher.operator.request import Request, probe_request
from watcher.operator.words import clean
from watcher.task import Outcome, Refused, Sent, Unknown
from watcher.text import Redactor

ANSWER_KEPT_BYTES = 4096
_HIDE_LIMIT_CHARS = 16_384
_HIDE_TAIL_CHARS = 1024

# At INFO httpx logs each URL in full, and a URL may hold a key.
logging.getLogger("httpx").setLevel(logging.WARNING)

# The transport files most failures under ConnectTimeout, even a connection closed after it carried the request, so the
# aiohttp exception beneath it decides. These two arise before there is a connection; a proxy is never used.
_NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


@dataclass(slots=True)
class _Exchange:
    """What is known of one POST. `whole` is True once the answer was read to its end within its limit."""

    sent: bool = True
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    trouble: str = ""
    duration_ms: int = 0


class Client:
    """Sends requests to one endpoint. Use within one event loop, as an async context manager.

    Basic authentication; TLS verified; no redirects, cookies, decompression or proxies and credentials from the
    environment. At most `concurrency` requests are on their way at once. Raises FixConfiguration for an unusable
    endpoint.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._redactor = Redactor(secret for secret in (endpoint.password, endpoint.url) if secret)
        self._url, self._headers = httpx.URL(endpoint.url), _headers(endpoint)
        connect_s = min(endpoint.connect_timeout_s, endpoint.timeout_s / 2)
        # `pool` bounds all of connecting, name look-up included: our own slots mean that nobody waits for the pool.
        self._extensions = {"timeout": httpx.Timeout(None, connect=connect_s, pool=connect_s).as_dict()}
        self._http = _transport(endpoint)

    def __repr__(self) -> str:
        return f"Client({self._endpoint.origin})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Requests still on their way fail as Unknown."""
        await self._http.aclose()

    async def send(self, request: Request) -> Sent:
        """One POST and what came of it; returns within twice `timeout_s`, half of that at most spent on a free slot.

        Raises nothing for what the network or the API does; only cancellation passes through, after which the outcome
        is unknown.
        """
        done = await self._exchange(request.body)
        kept = self._hide(done.body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        return Sent(self._outcome(done, request.request_id), done.status, kept[:ANSWER_KEPT_BYTES], done.duration_ms)

    async def probe(self) -> Probe:
        """Ask for a method nobody has: shows without any effect whether the API is there and takes our credentials."""
        request = probe_request(1)
        done = await self._exchange(request.body)
        if done.status is None or not done.whole:
            return Probe(False, f"{self._endpoint.origin}: {done.trouble}", done.status, done.duration_ms)
        ok, words = probe.classify(done.status, done.headers, done.body, request.request_id, self._hide)
        return Probe(ok, f"{self._endpoint.origin}: {words}", done.status, done.duration_ms)

    async def tcp_probe(self) -> Probe:
        """Only connect: shows whether anybody is there, without a request."""
        began_s = self._clock.monotonic_s()
        trouble = await tcp_probe(self._endpoint.url, self._endpoint.connect_timeout_s)
        duration_ms = round((self._clock.monotonic_s() - began_s) * 1000)
        return Probe(not trouble, f"{self._endpoint.origin}: {trouble or 'can be reached'}", None, duration_ms)

    def _outcome(self, done: _Exchange, request_id: int) -> Outcome:
        if not done.sent:
            return Refused(f"not sent: {done.trouble}")
        if done.status is None:
            return Unknown(done.trouble)
        if done.whole:
            return parse(done.status, done.headers, done.body, request_id, hide=self._hide)
        wait_s = retry_after_s(done.headers)
        return refusal.by_status(done.status, wait_s) or Unknown(f"HTTP {done.status}, then {done.trouble}", wait_s)

    def _hide(self, text: str) -> str:
        # Hiding comes before any cut of words or evidence. It is slow, and what lies far behind that cut is never kept.
        if len(text) <= _HIDE_LIMIT_CHARS:
            return self._redactor.hide(text)
        # This cut may itself have left half of a secret at the end.
        return self._redactor.hide(text[:_HIDE_LIMIT_CHARS])[:-_HIDE_TAIL_CHARS]

    async def _exchange(self, body: bytes) -> _Exchange:
        done = _Exchange()
        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            done.sent = False
            done.trouble = "no free connection in time: lower the load or raise [operator] concurrency"
            return done
        began_s = self._clock.monotonic_s()
        try:
            await self._post(body, done)
        finally:
            self._slots.release()
            done.duration_ms = max(0, round((self._clock.monotonic_s() - began_s) * 1000))
        return done

    async def _post(self, body: bytes, done: _Exchange) -> None:
        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                request = httpx.Request(
                    "POST", self._url, headers=self._headers, content=body, extensions=self._extensions
                )
                response = await self._http.handle_async_request(request)
                try:
                    done.status, done.headers = response.status_code, response.headers
                    await self._read(response, done)
                finally:
                    await response.aclose()
        except TimeoutError:
            done.trouble = done.trouble or f"no whole answer within {self._endpoint.timeout_s:g} s"
        # Whatever it was, it happened to a request that may have arrived: it has to become an outcome.
        except Exception as exc:  # noqa: BLE001
            cause = (exc.__cause__ or exc) if isinstance(exc, httpx.HTTPError) else exc
            done.sent = not isinstance(cause, _NEVER_CONNECTED)
            done.trouble = done.trouble or self._described(cause)

    async def _read(self, response: httpx.Response, done: _Exchange) -> None:
        limit_bytes = self._endpoint.body_limit_bytes
        held = bytearray()
        # Raw, so that a small compressed answer stays small.
        try:
            async for chunk in response.aiter_raw():
                held += chunk
                if len(held) > limit_bytes:
                    done.trouble = f"an answer of more than {limit_bytes} bytes"
                    return
            done.whole = True
        finally:
            done.body = bytes(held[:limit_bytes])

    def _described(self, cause: BaseException) -> str:
        words = {
            aiohttp.ConnectionTimeoutError: "no connection in time",
            aiohttp.ClientConnectorDNSError: "the host name is not known",
            aiohttp.ClientConnectorCertificateError: "the TLS certificate is not accepted, see [operator] ca_file",
            aiohttp.ClientSSLError: "the TLS handshake failed",
            aiohttp.ClientConnectorError: "the connection was refused",
            aiohttp.ServerDisconnectedError: "the connection was closed without an answer",
        }
        told = next((text for kind, text in words.items() if isinstance(cause, kind)), "the exchange broke off")
        # An OSError's own words name no address; other texts may hold the whole URL.
        detail = getattr(cause, "strerror", None) or type(cause).__name__
        return f"{told} ({clean(self._hide(str(detail)), 120)})"


def _transport(endpoint: Endpoint) -> AiohttpTransport:
    """The transport alone: httpx's client around it follows redirects, keeps cookies, and takes half as much again."""
    tls = endpoint.tls()

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=endpoint.concurrency, ssl=tls),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    return AiohttpTransport(verify=tls, trust_env=False, client=session)


def _headers(endpoint: Endpoint) -> httpx.Headers:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": _user_agent()}
    if endpoint.username:
        credentials = f"{endpoint.username}:{endpoint.password}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
    return httpx.Headers(headers)


def _user_agent() -> str:
    try:
        return f"avs-task-watcher/{version('avs-task-watcher')}"
    except PackageNotFoundError:
        return "avs-task-watcher/0"
