"""The HTTP client of the hosted operator API. It and its transport are the only files that import httpx.

Invariant: every failure of the network becomes a value, never an exception. "Not sent" means that no connection was
made.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
import httpx

from watcher.clock import Clock
from watcher.operator import probe, refusal
from watcher.operator.endpoint import Endpoint
from watcher.operator.probe import Probe, tcp_probe
from watcher.operator.reply import parse, retry_after_s
from watcher.operator.request import Request, probe_request
from watcher.operator.transport import Transport
from watcher.redact import Redactor
from watcher.task import Outcome, Refused, Sent, Unknown
from watcher.text import one_line

REPLY_KEPT_BYTES = 4096
_REDACT_LIMIT_CHARS = 16_384
_REDACT_TAIL_CHARS = 1024

# At INFO httpx logs each URL in full, and a URL may hold a key.
logging.getLogger("httpx").setLevel(logging.WARNING)

# These two are raised before there is a connection. No proxy is ever used.
_NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ConnectionTimeoutError, "connecting timed out"),
    (aiohttp.ClientConnectorDNSError, "the host name cannot be resolved"),
    (aiohttp.ClientConnectorCertificateError, "the TLS certificate is not accepted, see [operator] ca_file"),
    (aiohttp.ClientSSLError, "the TLS handshake failed"),
    (aiohttp.ClientConnectorError, "the connection was refused"),
    (aiohttp.ServerDisconnectedError, "the connection was closed without a reply"),
)


@dataclass(slots=True)
class _Exchange:
    """The course of one POST. `whole` is True once the reply is read to its end; `failure` says why it is not."""

    sent: bool = True
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    failure: str = ""
    duration_ms: int = 0


class Client:
    """A client of one API, for use within one event loop, as an async context manager.

    Basic authentication and verified TLS. No redirects, cookies or decompression; no proxies or credentials from the
    environment. At most `concurrency` requests run at once.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        """Prepare the connections; none is opened yet.

        Raises:
            FixConfiguration: the endpoint's certificates cannot be read.
        """
        self._endpoint = endpoint
        self._clock = clock
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._redactor = Redactor(secret for secret in (endpoint.password, endpoint.url) if secret)
        self._url = httpx.URL(endpoint.url)
        self._http = Transport(endpoint)

    def __repr__(self) -> str:
        return f"Client({self._endpoint.origin})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Running requests end as Unknown."""
        await self._http.aclose()

    async def send(self, request: Request) -> Sent:
        """Send one POST and return its outcome. Never raises for what network or API do.

        It returns within twice `timeout_s`, of which at most half is the wait for a free slot. Cancellation passes
        through; the outcome is then unknown.
        """
        exchange = await self._exchange(request.body)
        kept = self._redact(exchange.body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        outcome = self._outcome(exchange, request.request_id)
        return Sent(outcome, exchange.status, kept[:REPLY_KEPT_BYTES], exchange.duration_ms)

    async def probe(self) -> Probe:
        """Ask for a method that no server has: shows, without any effect, whether the API takes our credentials."""
        request = probe_request(1)
        exchange = await self._exchange(request.body)
        if exchange.status is None or not exchange.whole:
            return self._probe_result(False, exchange.failure, exchange.status, exchange.duration_ms)
        ok, message = probe.classify(exchange.status, exchange.headers, exchange.body, request.request_id, self._redact)
        return self._probe_result(ok, message, exchange.status, exchange.duration_ms)

    async def tcp_probe(self) -> Probe:
        """Open and close a connection: shows, without a request, whether the API can be reached."""
        began_s = self._clock.monotonic_s()
        failure = await tcp_probe(self._endpoint.url, self._endpoint.connect_timeout_s)
        duration_ms = round((self._clock.monotonic_s() - began_s) * 1000)
        return self._probe_result(not failure, failure or "can be reached", None, duration_ms)

    def _probe_result(self, ok: bool, message: str, status: int | None, duration_ms: int) -> Probe:
        return Probe(ok, f"{self._endpoint.origin}: {message}", status, duration_ms)

    def _outcome(self, exchange: _Exchange, request_id: int) -> Outcome:
        status = exchange.status
        if not exchange.sent:
            return Refused(f"not sent: {exchange.failure}")
        if status is None:
            return Unknown(exchange.failure)
        if exchange.whole:
            return parse(status, exchange.headers, exchange.body, request_id, redact=self._redact)
        wait_s = retry_after_s(exchange.headers)
        return refusal.by_status(status, wait_s) or Unknown(f"HTTP {status}, then {exchange.failure}", wait_s)

    def _redact(self, text: str) -> str:
        """Remove secrets before any cut of message or evidence, because a cut could leave half of one."""
        # Redacting is slow, and nothing far behind the later cut is kept.
        if len(text) <= _REDACT_LIMIT_CHARS:
            return self._redactor.hide(text)
        # This cut may itself leave half of a secret at the end: drop the end.
        return self._redactor.hide(text[:_REDACT_LIMIT_CHARS])[:-_REDACT_TAIL_CHARS]

    async def _exchange(self, body: bytes) -> _Exchange:
        exchange = _Exchange()
        # A free slot needs no timer.
        if not (await self._wait_for_slot() if self._slots.locked() else await self._slots.acquire()):
            exchange.sent = False
            exchange.failure = "no free connection in time: lower the load or raise [operator] concurrency"
            return exchange
        began_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                # With `stream`, httpx derives no headers for each request: those of the transport are enough.
                request = httpx.Request("POST", self._url, stream=httpx.ByteStream(body))
                response = await self._http.handle_async_request(request)
                try:
                    exchange.status, exchange.headers = response.status_code, response.headers
                    await self._read(response, exchange)
                finally:
                    await response.aclose()
        # The request may have arrived, so any exception must become an outcome.
        except Exception as cause:  # noqa: BLE001
            exchange.sent = not isinstance(cause, _NEVER_CONNECTED)
            exchange.failure = exchange.failure or self._reason(cause)
        finally:
            self._slots.release()
            exchange.duration_ms = max(0, round((self._clock.monotonic_s() - began_s) * 1000))
        return exchange

    async def _wait_for_slot(self) -> bool:
        """Wait for a free slot. Return False if there is none in time."""
        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                return await self._slots.acquire()
        except TimeoutError:
            return False

    async def _read(self, response: httpx.Response, exchange: _Exchange) -> None:
        limit_bytes = self._endpoint.body_limit_bytes
        body = bytearray()
        # Raw, so that a small compressed reply stays small; the stream itself, for httpx's iterators cost more than it.
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            async for chunk in response.stream:
                body += chunk
                if len(body) > limit_bytes:
                    exchange.failure = f"a reply of more than {limit_bytes} bytes"
                    return
            exchange.whole = True
        finally:
            exchange.body = bytes(body[:limit_bytes])

    def _reason(self, cause: BaseException) -> str:
        if type(cause) is TimeoutError:
            return f"no whole reply within {self._endpoint.timeout_s:g} s"
        reason = next((text for kind, text in _REASONS if isinstance(cause, kind)), "the exchange failed")
        # The text of an OSError names no address; other texts may hold the whole URL.
        detail = getattr(cause, "strerror", None) or type(cause).__name__
        return f"{reason} ({one_line(self._redact(str(detail)), 120)})"
