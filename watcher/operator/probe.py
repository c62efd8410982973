"""Two tests of an API without side effects: a TCP connection, and a request for a method that does not exist."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from watcher.operator.reply import Failure, Success, parse, read
from watcher.task import Refused, Unknown
from watcher.text import one_line

_PORTS = {"http": 80, "https": 443}
_REASONS: tuple[tuple[type[OSError], str], ...] = (
    (TimeoutError, "connecting timed out"),
    (socket.gaierror, "the host name cannot be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
)
# JSON-RPC 2.0, section 5.1.
_NO_SUCH_METHOD = -32601


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of a test: `ok` if the API is there and accepts our credentials, `message` for a person."""

    ok: bool
    message: str
    http_status: int | None
    duration_ms: int


async def tcp_probe(url: str, timeout_s: float) -> str:
    """Connect to the host of `url`. Return "" on success, else the reason for a person."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or _PORTS[parts.scheme])
    except OSError as error:
        reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)
        return reason or f"no connection ({error.strerror or type(error).__name__})"
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return ""


def classify(
    http_status: int, headers: Mapping[str, str], body: bytes, request_id: int, redact: Callable[[str], str]
) -> tuple[bool, str]:
    """Judge the reply to a request for a method that does not exist.

    A JSON-RPC error, with HTTP 404 too, is the good case: the API took the credentials and did nothing.

    Args:
        http_status: the status of the reply.
        headers: its headers, by lower-case names.
        body: its whole body.
        request_id: the id of the request.
        redact: removes secrets from text of the API.

    Returns:
        Whether the API is usable, and a message for a person.
    """
    reply = read(body, request_id)
    if isinstance(reply, Failure) and reply.code == _NO_SUCH_METHOD:
        # The operator API's own codes are small and never negative.
        return False, "a JSON-RPC server, but not the operator API (perhaps a node): check [operator] url"
    if isinstance(reply, Failure) and http_status in (200, 400, 404):
        return True, f"reachable and authorised (reply: {one_line(redact(reply.message), 120)})"
    if isinstance(reply, Success):
        return False, "not the operator API: it returns a result for a method that does not exist; check [operator] url"
    match parse(http_status, headers, body, request_id, redact=redact):
        case Refused(reason=reason) | Unknown(reason=reason):
            return False, reason
        case _:
            return False, f"HTTP {http_status} is not a reply to a probe: check [operator] url"
