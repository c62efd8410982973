"""What an HTTP answer of the hosted operator means for one attempt to send. Pure and total.

Whatever arrives is exactly one of Accepted, Refused, Unknown. An acceptance is a claim: the API answers as soon as the
aggregator took the signature, long before there is a transaction.
"""

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, assert_never

from watcher.operator import refusal, reply
from watcher.operator.words import WORDS_LIMIT_CHARS, clean
from watcher.task import Accepted, Outcome, Refused, Unknown

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
    answer = reply.read(body, request_id)
    claimed = _settled(http_status, answer, hide)
    if claimed is not None:
        return claimed
    certain = refusal.by_status(http_status, wait_s)
    if certain is not None:
        return _with_code(certain, answer, hide)
    if refusal.leaves_open(http_status):
        return Unknown(f"HTTP {http_status}, which leaves open whether the task was taken", wait_s)
    match answer:
        case reply.Failure(code, message):
            return refusal.by_error(code, message, wait_s, hide)
        case reply.Foreign():
            return Unknown(f"HTTP {http_status} with the answer to another request", wait_s)
        case reply.Success(result) if http_status < 300:
            return _accepted(result, hide) or Unknown("a result that names neither transaction nor digest", wait_s)
        case reply.Success():
            return Unknown(f"HTTP {http_status} with a result: the answer contradicts itself", wait_s)
        case reply.NoReply(text) if http_status < 300:
            return Unknown(_quoted(f"HTTP {http_status} without a JSON-RPC answer", text, hide), wait_s)
        case reply.NoReply(text):
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


def _settled(status: int, answer: reply.Reply, hide: Callable[[str], str]) -> Accepted | None:
    """`already finished` and its kin, under any status: there is nothing left to send, so the chain is to be read."""
    match answer:
        case reply.Failure(_, message):
            said = message
        case reply.NoReply(text) if 400 <= status < 500:
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


def _with_code(certain: Refused, answer: reply.Reply, hide: Callable[[str], str]) -> Refused:
    if not isinstance(answer, reply.Failure):
        return certain
    words = f"{certain.words} ({clean(hide(answer.message), 120)})"
    return Refused(words[:WORDS_LIMIT_CHARS], answer.code, certain.endpoint, certain.retry_after_s)


def _quoted(said: str, text: str, hide: Callable[[str], str]) -> str:
    shown = clean(hide(text), 200)
    return f"{said}: {shown}" if shown else f"{said}, no text"
