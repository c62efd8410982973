"""web3's asynchronous HTTP provider with our own way of sending a request.

web3 forms and encodes the requests. Sending is ours, because web3's session manager follows redirects, retries,
reads answers of any size, logs the whole URL (keys included) and takes a lock shared by all providers of the process
in a thread, which a cancelled caller can leave locked for good. So the real URL never enters web3 either: it knows the
endpoint by its origin only.
"""

import asyncio
from typing import Any, cast

import aiohttp
from web3 import AsyncHTTPProvider
from web3.types import RPCEndpoint, RPCResponse

from watcher.chain.answers import envelopes
from watcher.chain.refusals import Overloaded, http_refusal, retry_after_s, words_in
from watcher.chain.url import Url
from watcher.clock import Clock
from watcher.errors import RetryElsewhere

_REFUSAL_LIMIT_BYTES = 65_536
_CONNECT_TIMEOUT_S = 10.0
_HEADERS = {
    "Content-Type": "application/json",
    # An answer of a few kilobytes may unpack to gigabytes: ask for plain bytes, and refuse anything else.
    "Accept-Encoding": "identity",
    "User-Agent": "avs-task-watcher",
}


class Provider(AsyncHTTPProvider):
    """One endpoint. Every failure is a RetryElsewhere; there is no deadline in here, the caller sets it.

    Answers come back checked (see `answers.envelopes`) and in the order asked.
    """

    def __init__(self, url: Url, *, body_limit_bytes: int, clock: Clock) -> None:
        super().__init__(url.origin, exception_retry_configuration=None)
        self._url = url
        self._body_limit_bytes = body_limit_bytes
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        request = self.form_request(method, params)
        body = await self._post(self.encode_rpc_dict(request))
        return cast("RPCResponse", envelopes(body, [cast("int", request["id"])])[0])

    async def make_batch_request(self, batch_requests: list[tuple[RPCEndpoint, Any]]) -> list[RPCResponse]:
        requests = [self.form_request(method, params) for method, params in batch_requests]
        body = await self._post(self.encode_batch_request_dicts(requests))
        return cast("list[RPCResponse]", envelopes(body, [cast("int", request["id"]) for request in requests]))

    async def disconnect(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes) -> bytes:
        try:
            try:
                return await self._post_once(body)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # Most often a kept-alive connection that the server had closed meanwhile. All we ask is reading.
                return await self._post_once(body)
        except RetryElsewhere:
            raise
        except Exception as error:  # noqa: BLE001 - a server can make the HTTP stack raise nearly anything
            raise _failure(error) from None

    async def _post_once(self, body: bytes) -> bytes:
        async with self._open_session().post(
            self._url.whole(), data=body, headers=_HEADERS, allow_redirects=False
        ) as response:
            if response.status != 200:
                said = await _read(response, _REFUSAL_LIMIT_BYTES, cut=True)
                wait_s = retry_after_s(response.headers.get("Retry-After"), self._clock.now_ms())
                raise http_refusal(response.status, words_in(said), wait_s)
            if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
                response.close()
                raise RetryElsewhere("the answer is compressed although plain bytes were asked for")
            return await _read(response, self._body_limit_bytes)

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


async def _read(response: aiohttp.ClientResponse, limit_bytes: int, *, cut: bool = False) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit_bytes:
            response.close()  # the rest is not worth reading, and the connection cannot be used again
            if cut:
                break
            raise Overloaded(f"the answer is longer than {limit_bytes} bytes")
    return bytes(body[:limit_bytes])


def _failure(error: Exception) -> RetryElsewhere:
    """Words for an exception of the HTTP stack. Its own text may hold the URL, so only its kind is used."""
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
