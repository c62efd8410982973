"""What the answer to a request for an unknown method tells about an endpoint. Pure."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from watcher.operator import reply
from watcher.operator.reply import parse
from watcher.operator.words import clean
from watcher.task import Refused, Unknown

_PORTS = {"http": 80, "https": 443}
_WORDS: tuple[tuple[type[OSError], str], ...] = (
    (TimeoutError, "no connection in time"),
    (socket.gaierror, "the host name is not known"),
    (ConnectionRefusedError, "the connection was refused"),
)


async def tcp_probe(url: str, timeout_s: float) -> str:
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


_NO_SUCH_METHOD = -32601


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether the API is there and takes our credentials, and the words for a person."""

    ok: bool
    words: str
    http_status: int | None
    duration_ms: int


def classify(
    http_status: int, headers: Mapping[str, str], body: bytes, request_id: int, hide: Callable[[str], str]
) -> tuple[bool, str]:
    """Verdict and words. A JSON-RPC error, with HTTP 404 as well, is the good case: it answered, and did nothing."""
    answer = reply.read(body, request_id)
    if isinstance(answer, reply.Failure) and answer.code == _NO_SUCH_METHOD:
        # The operator API's own codes are small and never negative.
        return False, "it speaks JSON-RPC and is not the operator API (perhaps a node): check [operator] url"
    if isinstance(answer, reply.Failure) and http_status in (200, 400, 404):
        return True, f"reachable and authorised (it says: {clean(hide(answer.message), 120)})"
    if isinstance(answer, reply.Success):
        return False, "it answers a method that does not exist with a result, so it is not the operator API: check url"
    match parse(http_status, headers, body, request_id, hide=hide):
        case Refused(words=words) | Unknown(why=words):
            return False, words
        case _:
            return False, f"HTTP {http_status}, which is no answer to a probe: check [operator] url"
