"""The HTTP client of a hook's services: one POST with a bounded reply, over kept connections.

Invariant: a reply is hostile, and no message holds a part of a URL that may be secret.
"""

import asyncio
import base64
import errno
import os
import ssl
from types import SimpleNamespace
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp

from watcher.errors import AttemptFailed
from watcher.files import program_version
from watcher.text import clean

_CONNECT_S = 5.0
_TOO_LATE = f"no connection within {_CONNECT_S:g} s"


class Unreachable(Exception):
    """The request did not reach the service. The text is the reason."""


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


class HttpClient:
    """A client with at most `connections` at a time, and replies of at most `limit_bytes`. Made in the event loop."""

    def __init__(self, connections: int, limit_bytes: int) -> None:
        self._connections = connections
        self._limit_bytes = limit_bytes
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=_Connector(limit=connections),
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

    async def close(self) -> None:
        await self._session.close()

    async def post(self, url: str, body: bytes) -> tuple[int, bytes]:
        """Return status and content. A connection that the service had closed before the request is replaced.

        Raises:
            Unreachable: the request did not reach the service.
            AttemptFailed: it did, and the reply is not whole.
        """
        for _ in range(self._connections + 1):
            context = SimpleNamespace(reused=False)
            try:
                return await self._post_once(url, body, context)
            except aiohttp.ClientConnectorError as error:
                raise Unreachable(_why(error)) from None
            except aiohttp.ConnectionTimeoutError:
                raise Unreachable(_TOO_LATE) from None
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not context.reused:
                    break
            except (aiohttp.ClientError, ValueError) as error:
                raise AttemptFailed(f"the service's reply is not whole, or not HTTP ({type(error).__name__})") from None
        raise AttemptFailed("the service closed the connection without a reply")

    async def _post_once(self, url: str, body: bytes, context: SimpleNamespace) -> tuple[int, bytes]:
        url, authorization = _without_credentials(url)
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


async def try_connection(url: str) -> None:
    """Make a connection to a service, and close it.

    Raises:
        Unreachable: none can be made.
    """
    parts = urlsplit(url)
    is_secure = parts.scheme.lower() == "https"
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or (443 if is_secure else 80), ssl=is_secure or None
            )
        writer.transport.abort()
    except TimeoutError:
        raise Unreachable(_TOO_LATE) from None
    except (OSError, ValueError) as error:
        raise Unreachable(_why(error)) from None


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
