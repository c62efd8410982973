"""The conditions of a running daemon, as another process reads them from its /readyz.

Invariant: the reply is outside input. It is bounded in bytes and seconds, and whatever does not fit is no reply.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from watcher import files
from watcher.health.conditions import API
from watcher.text import clean
from watcher.validation import is_loopback

_TIMEOUT_S = 2.0
_BODY_LIMIT_BYTES = 256 * 1024
_CONDITIONS_LIMIT = 100
_ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound to


@dataclass(frozen=True, slots=True)
class SeenCondition:
    """A condition that the daemon reports. `since_ms` is in milliseconds since 1970."""

    key: str
    message: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running daemon. `missing` says why nothing is known of it; "": it replied.

    `next_probe_s`: seconds until it tries an API again that takes no requests; None: every API takes them.
    `observes`: it answers no task (operator.api = "none").
    """

    missing: str = ""
    conditions: tuple[SeenCondition, ...] = ()
    next_probe_s: float | None = None
    observes: bool = False

    def condition(self, key: str) -> SeenCondition | None:
        """Return the condition of this key, None while it does not hold."""
        return next((condition for condition in self.conditions if condition.key == key), None)


NOT_ASKED = Daemon("the daemon was not asked")


def read_daemon(
    address: tuple[str, int] | None, chain_id: int, task_manager: str, token: str = "", path: str = "/readyz"
) -> Daemon:
    """Return the daemon of a task manager that serves /readyz at an address.

    Args:
        address: host and port of [http] listen; None: it is turned off.
        chain_id: the chain of the task manager.
        task_manager: its address, 0x hex.
        token: the token of [http], sent to a loopback address alone; "": none.
        path: the path of /readyz, which of several AVSs each has.
    """
    if address is None:
        return Daemon("http.listen is off, so the daemon cannot be asked")
    host, port = _ANY_ADDRESS.get(address[0], address[0]), address[1]
    place = f"the daemon cannot be asked: {host}:{port}"
    try:
        body = asyncio.run(_get(host, port, token, path))
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:  # TimeoutError is an OSError
        return Daemon(f"{place} does not reply ({getattr(error, 'strerror', None) or type(error).__name__})")
    try:
        return _daemon(files.parse(body), chain_id, task_manager.lower())
    except (KeyError, TypeError, ValueError, OverflowError):
        return Daemon(f"{place} does not reply as a watcher does")
    except LookupError as error:
        return Daemon(f"{place} {error}")


async def _get(host: str, port: int, token: str, path: str) -> bytes:
    """Return the body of /readyz, cut to the limit. Raises OSError, TimeoutError, EOFError or ValueError.

    HTTP/1.0, to which a server sends the body as it is and closes: a library for more loads for a quarter of a second,
    and lists of tasks ask this, too. The status does not count: 503 has a body, too.
    """
    # Asked on a loopback address, the daemon answers to loopback names alone.
    name = "localhost" if is_loopback(host) else f"[{host}]" if ":" in host else host
    # To another machine the token would travel in clear.
    secret = f"Authorization: Bearer {token}\r\n" if token and is_loopback(host) else ""
    if not (name + token).isascii() or any(char.isspace() for char in name + token):
        raise ValueError("no header of HTTP")
    async with asyncio.timeout(_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, port, limit=_BODY_LIMIT_BYTES)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {name}\r\n{secret}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1."):
                raise ValueError("no reply of HTTP")
            body = bytearray()
            while len(body) < _BODY_LIMIT_BYTES and (chunk := await reader.read(_BODY_LIMIT_BYTES)):
                body += chunk
            return bytes(body[:_BODY_LIMIT_BYTES])
        finally:
            writer.close()


def _daemon(reply: Any, chain_id: int, task_manager: str) -> Daemon:
    """Return the daemon in a reply. Raises LookupError if it watches another contract."""
    if (int(reply["chain_id"]), str(reply["task_manager"]).lower()) != (chain_id, task_manager):
        raise LookupError("is the watcher of another contract")
    probe_s = reply["next_probe_seconds"]
    return Daemon(
        conditions=tuple(
            SeenCondition(clean(str(item["key"]), 100), clean(str(item["words"])), int(item["since_ms"]))
            for item in list(reply["troubles"])[:_CONDITIONS_LIMIT]
        ),
        next_probe_s=None if probe_s is None else float(probe_s),
        observes=API not in reply["services"] and not _answers_elsewhere(reply.get("replica")),
    )


def _answers_elsewhere(replica: Any) -> bool:
    """Return True if the processes that share the ledger send answers, or should: another one than this does."""
    return replica is not None and "submit" in {*replica["live"], *replica["missing"]}
