"""A JSON-RPC reply, told apart from everything else a web server may send. Pure and total."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, assert_never

from watcher import files
from watcher.operator import refusal
from watcher.operator.words import WORDS_LIMIT_CHARS, clean
from watcher.task import Accepted, Outcome, Refused, Unknown


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
        value = files.parse(body, unique_names=True)
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


RETRY_AFTER_LIMIT_S = 600.0

_HASH = re.compile(r"(?:0[xX])?([0-9a-fA-F]{64})")
_FINISHED_TX = re.compile(r"already finished\W{1,4}(?:0x)?([0-9a-f]{64})(?![0-9a-f])", re.IGNORECASE | re.ASCII)
_FINISHED_SIG = re.compile(r"(?:0x)?([0-9a-f]{64})\s{1,4}already finished", re.IGNORECASE | re.ASCII)
_RESULT_KEYS = ("tx_hash", "sig_hash", "task_index")
_NO_HASH = frozenset({"", "0x"})


def _as_is(text: str) -> str:
    return text


def parse(
    http_status: int,
    headers: Mapping[str, str],
    body: bytes,
    request_id: int,
    *,
    hide: Callable[[str], str] = _as_is,
) -> Outcome:
    """The outcome of one POST whose answer arrived whole. Never raises.

    `headers` is looked up by lower-case names. `hide` takes secrets out of outside text before it is kept in words.
    """
    wait_s = retry_after_s(headers)
    answer = read(body, request_id)
    claimed = _settled(http_status, answer, hide)
    if claimed is not None:
        return claimed
    certain = refusal.by_status(http_status, wait_s)
    if certain is not None:
        return _with_code(certain, answer, hide)
    if refusal.leaves_open(http_status):
        return Unknown(f"HTTP {http_status}, which leaves open whether the task was taken", wait_s)
    match answer:
        case Failure(code, message):
            return refusal.by_error(code, message, wait_s, hide)
        case Foreign():
            return Unknown(f"HTTP {http_status} with the answer to another request", wait_s)
        case Success(result) if http_status < 300:
            return _accepted(result, hide) or Unknown("a result that names neither transaction nor digest", wait_s)
        case Success():
            return Unknown(f"HTTP {http_status} with a result: the answer contradicts itself", wait_s)
        case NoReply(text) if http_status < 300:
            return Unknown(_quoted(f"HTTP {http_status} without a JSON-RPC answer", text, hide), wait_s)
        case NoReply(text):
            return Refused(_quoted(f"HTTP {http_status}", text, hide), retry_after_s=wait_s)
    assert_never(answer)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds, at most RETRY_AFTER_LIMIT_S; None where there is none that makes sense.

    A date counts from the answer's own `Date`, so that neither clock has to be right; without it, it is ignored.
    """
    given = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", given):
        return min(float(given), RETRY_AFTER_LIMIT_S)
    try:
        wait_s = (parsedate_to_datetime(given) - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(wait_s, RETRY_AFTER_LIMIT_S) if wait_s >= 0 else None


def _settled(status: int, answer: Reply, hide: Callable[[str], str]) -> Accepted | None:
    """`already finished` and its kin, under any status: there is nothing left to send, so the chain is to be read."""
    match answer:
        case Failure(_, message):
            said = message
        case NoReply(text) if 400 <= status < 500:
            said = text
        case _:
            return None
    if not any(text in said.lower() for text in refusal.LOOK_AT_CHAIN):
        return None
    return Accepted(_found(_FINISHED_TX, said), _found(_FINISHED_SIG, said), clean(hide(said)))


def _found(pattern: re.Pattern[str], text: str) -> bytes | None:
    match = pattern.search(text)
    return _not_zero(bytes.fromhex(match[1])) if match else None


def _accepted(result: Any, hide: Callable[[str], str]) -> Accepted | None:
    if not isinstance(result, dict) or not any(key in result for key in _RESULT_KEYS):
        return None
    notes: list[str] = []
    tx_hash = _hash(result, "tx_hash", notes, hide)
    digest = _hash(result, "sig_hash", notes, hide)
    return Accepted(tx_hash, digest, "; ".join(notes)[:WORDS_LIMIT_CHARS])


def _hash(result: dict[str, Any], key: str, notes: list[str], hide: Callable[[str], str]) -> bytes | None:
    value = result.get(key)
    if value is None or (isinstance(value, str) and value in _NO_HASH):
        return None
    match = _HASH.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        shown = clean(hide(value), 80) if isinstance(value, str) else type(value).__name__
        notes.append(f"{key} is no 32-byte hash: {shown}")
        return None
    return _not_zero(bytes.fromhex(match[1]))


def _not_zero(value: bytes) -> bytes | None:
    return value if any(value) else None


def _with_code(certain: Refused, answer: Reply, hide: Callable[[str], str]) -> Refused:
    if not isinstance(answer, Failure):
        return certain
    words = f"{certain.words} ({clean(hide(answer.message), 120)})"
    return Refused(words[:WORDS_LIMIT_CHARS], answer.code, certain.endpoint, certain.retry_after_s)


def _quoted(said: str, text: str, hide: Callable[[str], str]) -> str:
    shown = clean(hide(text), 200)
    return f"{said}: {shown}" if shown else f"{said}, no text"
