"""The transport of the operator's API: httpx's requests and replies over aiohttp's connections.

httpx's own pool looks at every connection for every request, and its client follows redirects, keeps cookies and costs
half again. aiohttp's exceptions pass through as they are: the client decides by them whether anything was sent.
"""

import base64
from collections.abc import AsyncIterator

import aiohttp
import httpx

from watcher.files import program_version
from watcher.operator.endpoint import Endpoint


class Transport(httpx.AsyncBaseTransport):
    """The connections to one API, for use within one event loop. No proxy or credentials from the environment."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Prepare the connections; none is opened yet.

        Raises:
            FixConfiguration: the endpoint's certificates cannot be read.
        """
        self._headers = _headers(endpoint)
        self._tls = endpoint.tls()
        self._most = endpoint.concurrency
        connect_s = min(endpoint.connect_timeout_s, endpoint.timeout_s / 2)
        # `connect` bounds all of connecting, with name look-up: the client sees to it that none waits for another.
        self._timeout = aiohttp.ClientTimeout(connect=connect_s, sock_connect=connect_s)
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request with the headers of every POST. Raises what aiohttp does."""
        if self._session is None:
            self._session = self._opened()
        reply = await self._session.request(
            request.method, str(request.url), data=request.read(), headers=request.headers, allow_redirects=False
        )
        return httpx.Response(reply.status, headers=reply.raw_headers, stream=_Body(reply))

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._most, ssl=self._tls),
            headers=self._headers,
            timeout=self._timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )


class _Body(httpx.AsyncByteStream):
    """The body of a reply, as it comes from the network. To close it ends the reply."""

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._reply.content.readany():
            yield chunk

    async def aclose(self) -> None:
        self._reply.release()
        await self._reply.wait_for_close()


def _headers(endpoint: Endpoint) -> dict[str, str]:
    """Return the headers of every POST. The session holds them: httpx and aiohttp would write them for each one."""
    headers = {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"avs-task-watcher/{program_version()}",
    }
    if endpoint.username:
        credentials = f"{endpoint.username}:{endpoint.password}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
    return headers
