"""JSON-RPC over HTTP to one endpoint: the request formed and sent, and the reply read within limits.

Own code rather than web3's provider, which follows redirects, retries, reads replies of any size, logs the whole URL
(keys included) and holds a lock shared by the process in a thread, where a cancelled caller can leave it locked.
Specification: https://www.jsonrpc.org/specification.
"""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec

from watcher.chain.rpc.body import limit_bytes, read
from watcher.chain.rpc.calls import Call
from watcher.chain.rpc.envelope import Envelope, answered, envelopes
from watcher.chain.rpc.errors import Overloaded, error_text, http_refusal, retry_after_s
from watcher.clock import Clock
from watcher.errors import FixConfiguration, RetryElsewhere
from watcher.redact import Redactor

# Shorter path segments ("v2", "rpc", "mainnet") are names, not keys; cutting them out would only garble messages.
_KEY_LENGTH_MIN = 8


class Url:
    """One endpoint's URL. `str` and `repr` show `scheme://host[:port]` and nothing else."""

    __slots__ = ("_redactor", "_whole", "origin")

    def __init__(self, whole: str) -> None:
        """Split `whole` into what may be shown and what may not.

        Raises:
            FixConfiguration: `whole` has no scheme or no host; the message does not repeat it.
        """
        try:
            parts = urlsplit(whole)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or not parts.scheme:
            raise FixConfiguration("chain.rpc_urls: an entry is not a URL of the form scheme://host[:port][/path]")
        bracketed = f"[{host}]" if ":" in host else host
        self.origin = f"{parts.scheme.lower()}://{bracketed}" + (f":{port}" if port is not None else "")
        self._whole = whole
        secrets = {parts.query, parts.username or "", parts.password or "", parts.path.strip("/")}
        secrets.update(segment for segment in parts.path.split("/"))
        secrets.update(pair.partition("=")[2] for pair in parts.query.split("&"))
        secrets.update([unquote(secret) for secret in secrets])
        # Also as they travel: the user and password in the base64 of a header, a key percent-encoded.
        self._redactor = Redactor([whole, *(secret for secret in secrets if len(secret) >= _KEY_LENGTH_MIN)])

    def whole(self) -> str:
        """Return the URL with its secrets. Only for opening a connection."""
        return self._whole

    def scrub(self, text: str) -> str:
        """Return `text` without the URL's secrets: a server may repeat the path or the credentials of a request."""
        return self._redactor.hide(text)

    def __str__(self) -> str:
        return self.origin

    def __repr__(self) -> str:
        return f"Url({self.origin})"


_REFUSAL_LIMIT_BYTES = 65_536
_PARSE_ASIDE_BYTES = 256 * 1024
_CONNECT_TIMEOUT_S = 10.0
# Statuses about the caller or the address it called, whatever else the body holds.
_ABOUT_US = frozenset({301, 302, 307, 308, 401, 402, 403, 404, 429})
_HEADERS = {
    "Content-Type": "application/json",
    # A reply of a few kilobytes may unpack to gigabytes: ask for plain bytes, and unpack others within the limit.
    "Accept-Encoding": "identity",
    "User-Agent": "avs-task-watcher",
}


class Transport:
    """One endpoint. Every failure is a RetryElsewhere; the caller sets the deadline."""

    def __init__(self, url: Url, *, body_limit_bytes: int, clock: Clock) -> None:
        self._url = url
        self._body_limit_bytes = body_limit_bytes
        self._clock = clock
        self._ids = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, calls: Sequence[Call]) -> list[Envelope]:
        """Return one checked envelope per call, in the order of `calls`. A single call travels without a batch.

        Raises:
            Overloaded: the connection broke, or the reply is cut, or longer than such replies are.
            RetryElsewhere: any other reason for which there is no usable reply.
        """
        ids = [next(self._ids) for _ in calls]
        methods = [method for method, _ in calls]
        limit = limit_bytes(methods, self._body_limit_bytes)
        body = _encode(calls, ids)
        try:
            try:
                return await self._post(body, ids, limit)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # Most often a kept-alive connection that the server closed meanwhile. Every call only reads.
                return await self._post(body, ids, limit)
        except RetryElsewhere:
            raise
        except Exception as error:  # noqa: BLE001 - a server can make the HTTP stack raise nearly anything
            raise _failure(error) from None

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes, ids: Sequence[int], limit: int) -> list[Envelope]:
        async with self._open_session().post(
            self._url.whole(), data=body, headers=_HEADERS, allow_redirects=False
        ) as response:
            if response.status == 200:
                return await _parsed(await read(response, limit), ids)
            text = await read(response, min(limit, _REFUSAL_LIMIT_BYTES), cut=True)
            wait_s = retry_after_s(response.headers.get("Retry-After"), self._clock.now_ms())
            if response.status not in _ABOUT_US and wait_s is None and (each := answered(text, ids)):
                return each  # some servers give the error of a call the status of a request
            raise http_refusal(response.status, error_text(text), wait_s)

    def _open_session(self) -> aiohttp.ClientSession:
        # Made on first use: aiohttp binds a session to the running loop.
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=16, keepalive_timeout=30, use_dns_cache=False),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


def _encode(calls: Sequence[Call], ids: Sequence[int]) -> bytes:
    requests: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, params) in zip(ids, calls, strict=True)
    ]
    return msgspec.json.encode(requests if len(requests) > 1 else requests[0])


async def _parsed(body: bytes, ids: Sequence[int]) -> list[Envelope]:
    """Return the envelopes in a body; a large one is parsed in a thread, while the loop serves deadlines and health."""
    if len(body) > _PARSE_ASIDE_BYTES:
        return await asyncio.to_thread(envelopes, body, ids)
    return envelopes(body, ids)


def _failure(error: Exception) -> RetryElsewhere:
    """Return the reason for an exception of the HTTP stack. Its own text may hold the URL, so only its kind counts."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return RetryElsewhere("the name does not resolve")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return RetryElsewhere("its TLS certificate is not valid for this host")
    if isinstance(error, aiohttp.ClientSSLError):
        return RetryElsewhere("the TLS handshake failed")
    if isinstance(error, aiohttp.ClientConnectorError):
        return RetryElsewhere(f"no connection ({error.os_error.strerror or type(error.os_error).__name__})")
    if isinstance(error, aiohttp.ServerTimeoutError | asyncio.TimeoutError):
        return RetryElsewhere(f"no connection within {_CONNECT_TIMEOUT_S:g} s")
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return Overloaded("the connection broke before the answer was complete")
    return RetryElsewhere(f"no usable HTTP answer ({type(error).__name__})")
