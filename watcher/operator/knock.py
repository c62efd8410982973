"""A knock at the API's door: is anybody there at all?

A connection that is closed again at once. It costs the API nothing, shows it no password and leaves no request in its
log, so that it can be made often while nothing else is to be sent. It cannot tell whether the API behind it works.
"""

import asyncio
import socket
from contextlib import suppress
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
_WORDS: tuple[tuple[type[OSError], str], ...] = (
    (TimeoutError, "no connection in time"),
    (socket.gaierror, "the host name is not known"),
    (ConnectionRefusedError, "the connection was refused"),
)


async def knock(url: str, timeout_s: float) -> str:
    """Why no connection to the host of `url` came about within the time, "" when one did."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or _PORTS[parts.scheme])
    except OSError as trouble:
        told = next((words for kind, words in _WORDS if isinstance(trouble, kind)), None)
        return told or f"no connection ({trouble.strerror or type(trouble).__name__})"
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return ""
