"""A JSON-RPC reply, told apart from everything else a web server may send. Pure and total."""

import json
from dataclasses import dataclass
from typing import Any

from watcher import document


@dataclass(frozen=True, slots=True)
class Success:
    """A reply to our request that carries a result, of whatever shape."""

    result: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply that carries an error. `code` is None when it is no integer."""

    code: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """A reply, but not to our request."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Not a JSON-RPC reply. `text` is what it was, as far as it is text."""

    text: str


Reply = Success | Failure | Foreign | NoReply


def read(body: bytes, request_id: int) -> Reply:
    """Total: every body is exactly one of the four. Strict where JSON is ambiguous (duplicate names, NaN)."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return NoReply(body.decode("latin-1"))
    try:
        value = document.parse(body, unique_names=True)
    except ValueError:
        return NoReply(text)
    if not isinstance(value, dict):
        return NoReply(text)
    return _reply(value, request_id) or NoReply(text)


def _reply(value: dict[str, Any], request_id: int) -> Reply | None:
    given = value.get("id")
    # The server's JSON-RPC library answers a body it could not read with id 0; the specification says null.
    unnamed = given is None or _same_id(given, 0)
    error = value.get("error")
    if error is not None:
        return _failure(error) if unnamed or _same_id(given, request_id) else Foreign()
    if "result" in value:
        return Success(value["result"]) if _same_id(given, request_id) else Foreign()
    return None


def _same_id(given: Any, request_id: int) -> bool:
    if isinstance(given, bool):
        return False
    return given == request_id if isinstance(given, int) else given == str(request_id)


def _failure(error: Any) -> Failure:
    if not isinstance(error, dict):
        return Failure(None, _text(error))
    data = error.get("data")
    message = _text(error.get("message", ""))
    return Failure(_code(error.get("code")), message if data is None else f"{message} ({_text(data)})")


def _code(value: Any) -> int | None:
    # Some servers quote the code. Anything outside 64 bits is noise, and would not fit a database column.
    if isinstance(value, str) and len(value) <= 20 and value.lstrip("-").isdecimal() and value.isascii():
        try:
            value = int(value)
        except ValueError:
            return None
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    return None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):
        return "(unreadable)"
