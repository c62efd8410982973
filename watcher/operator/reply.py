"""The reply to a POST: any bytes as one of four shapes, and as one outcome. Pure and total.

JSON-RPC 2.0, section 5, is the frame; the result's fields are those of AltLayer's hosted operator API.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, assert_never

import msgspec

from watcher import files
from watcher.operator import refusal
from watcher.operator.refusal import REASON_LIMIT_CHARS
from watcher.task import Accepted, Outcome, Refused, Unknown
from watcher.text import one_line


@dataclass(frozen=True, slots=True)
class Success:
    """A reply to our request with a result of any shape."""

    result: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply with an error. `code` is None unless it is an integer."""

    code: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """A reply to another request."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Bytes that are no JSON-RPC reply, as text."""

    text: str


Reply = Success | Failure | Foreign | NoReply

_DECODER, _ENCODER = msgspec.json.Decoder(), msgspec.json.Encoder()


def read(body: bytes, request_id: int) -> Reply:
    """Return the shape of a body. Strict where JSON is ambiguous: duplicate names and NaN make it no reply."""
    try:
        value = _value(body)
    except ValueError:
        value = None
    reply = _reply(value, request_id) if isinstance(value, dict) else None
    return reply or NoReply(_readable(body))


def _value(body: bytes) -> Any:
    """Return what `files.parse` returns, or raise ValueError as it does.

    msgspec decodes and encodes in less time, but takes the last of several members of one name. Each member has a
    colon, and a colon in a text stays where nothing is escaped: a value with as many as the body has lost no member.
    """
    if b"\\" not in body and not files.is_too_deep(body):
        try:
            value = _DECODER.decode(body)
            if _ENCODER.encode(value).count(b":") == body.count(b":"):
                return value
        except (ValueError, OverflowError):
            pass  # what one of the two readers does not take, the other decides
    return files.parse(body, unique_names=True)


def _readable(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _reply(value: dict[str, Any], request_id: int) -> Reply | None:
    reply_id = value.get("id")
    # The server's JSON-RPC library replies with id 0 to a body it could not read; the specification says null.
    unnamed = reply_id is None or _same_id(reply_id, 0)
    error = value.get("error")
    if error is not None:
        return _failure(error) if unnamed or _same_id(reply_id, request_id) else Foreign()
    if "result" in value:
        return Success(value["result"]) if _same_id(reply_id, request_id) else Foreign()
    return None


def _same_id(reply_id: Any, request_id: int) -> bool:
    if isinstance(reply_id, bool):
        return False
    return reply_id == request_id if isinstance(reply_id, int) else reply_id == str(request_id)


def _failure(error: Any) -> Failure:
    if not isinstance(error, dict):
        return Failure(None, _text(error))
    data = error.get("data")
    message = _text(error.get("message", ""))
    return Failure(_code(error.get("code")), message if data is None else f"{message} ({_text(data)})")


def _code(value: Any) -> int | None:
    # Some servers quote the code. Codes outside 64 bits are noise, and do not fit a database column.
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


RETRY_AFTER_LIMIT_S = 600.0

_HASH = re.compile(r"(?:0[xX])?([0-9a-fA-F]{64})")
_FINISHED_TX = re.compile(r"already finished\W{1,4}(?:0x)?([0-9a-f]{64})(?![0-9a-f])", re.IGNORECASE | re.ASCII)
_FINISHED_SIG = re.compile(r"(?:0x)?([0-9a-f]{64})\s{1,4}already finished", re.IGNORECASE | re.ASCII)
_RESULT_KEYS = frozenset({"tx_hash", "sig_hash", "task_index"})
_NO_HASH, _NO_WORD = frozenset({"", "0x"}), bytes(32)


def _as_is(text: str) -> str:
    return text


def parse(
    http_status: int,
    headers: Mapping[str, str],
    body: bytes,
    request_id: int,
    *,
    redact: Callable[[str], str] = _as_is,
) -> Outcome:
    """Return the outcome of one POST whose reply arrived whole. Never raises.

    Args:
        http_status: the status of the reply.
        headers: its headers, by lower-case names.
        body: its whole body.
        request_id: the id of the request.
        redact: removes secrets from text of the API before any of it is kept.
    """
    reply = read(body, request_id)
    if isinstance(reply, Success) and 200 <= http_status < 300:
        return _accepted(reply.result, redact) or Unknown(
            "a result that names neither transaction nor digest", retry_after_s(headers)
        )
    wait_s = retry_after_s(headers)
    finished = _already_finished(http_status, reply, redact)
    if finished is not None:
        return finished
    refused = refusal.by_status(http_status, wait_s)
    if refused is not None:
        return _with_error(refused, reply, redact)
    if refusal.leaves_open(http_status):
        return Unknown(f"HTTP {http_status} leaves open whether the task was accepted", wait_s)
    match reply:
        case Failure(code, message):
            return refusal.by_error(code, message, wait_s, redact)
        case Foreign():
            return Unknown(f"HTTP {http_status} with the reply to another request", wait_s)
        case Success():
            return Unknown(f"HTTP {http_status} with a result, which contradicts the status", wait_s)
        case NoReply(text) if http_status < 300:
            return Unknown(_quote(f"HTTP {http_status} without a JSON-RPC reply", text, redact), wait_s)
        case NoReply(text):
            return Refused(_quote(f"HTTP {http_status}", text, redact), retry_after_s=wait_s)
    assert_never(reply)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return `Retry-After` in seconds, at most RETRY_AFTER_LIMIT_S; None if it is absent or unusable.

    RFC 9110, section 10.2.3. A date is compared with the reply's own `Date`, so that no clock has to be right; without
    `Date` it is ignored.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", value):
        return min(float(value), RETRY_AFTER_LIMIT_S)
    try:
        wait_s = (parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(wait_s, RETRY_AFTER_LIMIT_S) if wait_s >= 0 else None


def _already_finished(status: int, reply: Reply, redact: Callable[[str], str]) -> Accepted | None:
    """Return Accepted for `already finished` and similar texts under any status: the chain has the answer."""
    match reply:
        case Failure(_, message):
            pass
        case NoReply(message) if 400 <= status < 500:
            pass
        case _:
            return None
    if not any(text in message.lower() for text in refusal.LOOK_AT_CHAIN):
        return None
    return Accepted(
        _find_hash(_FINISHED_TX, message),
        _find_hash(_FINISHED_SIG, message),
        one_line(redact(message), REASON_LIMIT_CHARS),
    )


def _find_hash(pattern: re.Pattern[str], text: str) -> bytes | None:
    match = pattern.search(text)
    return _none_if_zero(bytes.fromhex(match[1])) if match else None


def _accepted(result: Any, redact: Callable[[str], str]) -> Accepted | None:
    if not isinstance(result, dict) or _RESULT_KEYS.isdisjoint(result):
        return None
    notes: list[str] = []
    tx_hash = _hash(result, "tx_hash", notes, redact)
    digest = _hash(result, "sig_hash", notes, redact)
    return Accepted(tx_hash, digest, "; ".join(notes)[:REASON_LIMIT_CHARS])


def _hash(result: dict[str, Any], key: str, notes: list[str], redact: Callable[[str], str]) -> bytes | None:
    value = result.get(key)
    if value is None or (isinstance(value, str) and value in _NO_HASH):
        return None
    match = _HASH.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        text = one_line(redact(value), 80) if isinstance(value, str) else type(value).__name__
        notes.append(f"{key} is not a 32-byte hash: {text}")
        return None
    return _none_if_zero(bytes.fromhex(match[1]))


def _none_if_zero(value: bytes) -> bytes | None:
    return None if value == _NO_WORD else value


def _with_error(refused: Refused, reply: Reply, redact: Callable[[str], str]) -> Refused:
    """Add the code and text of a JSON-RPC error to a refusal by status."""
    if not isinstance(reply, Failure):
        return refused
    reason = f"{refused.reason} ({one_line(redact(reply.message), 120)})"
    return Refused(reason[:REASON_LIMIT_CHARS], reply.code, refused.endpoint, refused.retry_after_s)


def _quote(reason: str, text: str, redact: Callable[[str], str]) -> str:
    quoted = one_line(redact(text), 200)
    return f"{reason}: {quoted}" if quoted else f"{reason}, empty body"
