"""The refusals of endpoints, and their meaning. Pure.

Nodes word the same refusal in dozens of ways, so the patterns know four meanings only: "slow down", "no such block",
"no such state" and "the call itself failed". Any other text stays a plain refusal, and the caller decides by its
question.
"""

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from watcher import files
from watcher.errors import NarrowRange, RetryElsewhere

# The characters of a foreign text in a message. Ten times as many are kept, so that a secret is removed before the cut.
WORDS_LIMIT = 200
COOL_DOWN_MAX_S = 300.0

_SLOW_DOWN = re.compile(
    r"rate.?limit|too many requests|compute units|throughput|requests per|request rate|daily (request|limit)|credits"
    r"|quota|slow down",
    re.IGNORECASE,
)
# Words of limits on the range of one question, also of those that call themselves a quota. No rate limit has them.
_OF_A_RANGE = re.compile(
    r"\brange|\bblocks\b|\bresults?\b|\blogs\b|result set|response (is )?too|response size|eth_getlogs", re.IGNORECASE
)
_NO_SUCH_BLOCK = re.compile(
    r"(unknown|missing|invalid) (block|header)|header not found|header for hash not found|block not found"
    r"|block .{0,80}not found|(could not|cannot|can't) find (the )?(block|header)|block ?out ?of ?range|not canonical"
    r"|resource not found|no such block|beyond (the )?(current )?head|hash .{0,80}not (currently )?canonical",
    re.IGNORECASE,
)
_NO_SUCH_STATE = re.compile(
    r"missing trie node|historical state|state .{0,80}(not |un)available|no state available|pruned|pruning|archive",
    re.IGNORECASE,
)
# Anchored: the reason of a revert follows these words, and may contain any others.
_CALL_FAILED = re.compile(
    r"(error: )?(vm exception|vm execution error|execution (reverted|error|failed)|reverted|revert\b|invalid opcode"
    r"|evm error|out of gas|bad instruction|stack (under|over)flow|invalid jump)",
    re.IGNORECASE,
)


class Paused(RetryElsewhere):
    """The endpoint asks for a pause of `cool_down_s` seconds; None: it does not say how long."""

    def __init__(self, message: str, cool_down_s: float | None = None) -> None:
        super().__init__(message)
        self.cool_down_s = cool_down_s


class ShutOut(Paused):
    """The endpoint does not serve this client or this address: the key, the path or the whole URL is wrong."""


class Overloaded(RetryElsewhere):
    """No usable reply, perhaps for the size of the question: time-out, cut or oversized reply, HTTP 413 or 5xx."""


class WrongChain(RetryElsewhere):
    """The endpoint serves another chain than the configured one; none of its replies counts."""


@dataclass(frozen=True, slots=True)
class RpcError:
    """A JSON-RPC error object. `message` is printable ASCII of limited length, and may hold secrets of the URL."""

    code: int | None
    message: str
    data: bytes | None = None

    @property
    def slow_down(self) -> bool:
        return self.code in (-32029, 429) or _asks_to_slow_down(self.message)

    @property
    def no_such_block(self) -> bool:
        return self.code == -39001 or (self.code != -32601 and bool(_NO_SUCH_BLOCK.search(self.message)))

    @property
    def no_such_state(self) -> bool:
        """True if the node has the block without its state, as full nodes do for all but the newest 128 blocks."""
        return bool(_NO_SUCH_STATE.search(self.message))

    @property
    def call_failed(self) -> bool:
        return self.code == 3 or bool(_CALL_FAILED.match(self.message))

    def __str__(self) -> str:
        return self.message if self.code is None else f"{self.message} ({self.code})"


@lru_cache(maxsize=64)
def _asks_to_slow_down(message: str) -> bool:
    # The refusals of one reply have one text: a hundred dry runs revert for the same reason.
    return bool(_SLOW_DOWN.search(message))


def refused(error: RpcError, narrow: bool = False) -> RetryElsewhere:
    """Return the exception for an error object. `narrow`: the node may serve a smaller question."""
    if error.slow_down and not (narrow and speaks_of_a_range(error.message)):
        return Paused(str(error))
    return NarrowRange(str(error)) if narrow else RetryElsewhere(str(error))


def speaks_of_a_range(message: str) -> bool:
    """Return True if a refusal is about the range of one question."""
    return bool(_OF_A_RANGE.search(message))


def clean(raw: object) -> str:
    """Return foreign text safe to print: ASCII on one line, control characters escaped, of limited length."""
    text = raw if isinstance(raw, str) else "no reason given"
    return ascii(text[: 10 * WORDS_LIMIT])[1:-1][: 10 * WORDS_LIMIT]


def rpc_error(raw: Any) -> RpcError:
    """Return the error in an `error` member of any shape: an object by the standard, plain text at some nodes."""
    if not isinstance(raw, dict):
        return RpcError(None, clean(raw))
    code = raw.get("code")
    return RpcError(code if type(code) is int and abs(code) < 2**31 else None, clean(raw.get("message")), _data(raw))


def _data(raw: dict[str, Any]) -> bytes | None:
    data = raw.get("data")
    if not isinstance(data, str):
        return None
    data = data.removeprefix("Reverted ")  # as Nethermind has it
    if not data.startswith("0x") or len(data) > 4096:
        return None
    try:
        return bytes.fromhex(data[2:])
    except ValueError:
        return None


def error_text(body: bytes) -> str:
    """Return the JSON-RPC error in the body of an HTTP error, "" for any other body, such as HTML."""
    try:
        raw = files.parse(body)
    except ValueError:
        return ""
    first = raw[0] if isinstance(raw, list) and raw else raw
    error = first.get("error") if isinstance(first, dict) else None
    return "" if error is None else str(rpc_error(error))


def http_refusal(status: int, reason: str, retry_after_s: float | None) -> RetryElsewhere:
    """Return the exception for an HTTP status other than 200.

    Args:
        status: the HTTP status.
        reason: the JSON-RPC error in the body, or "".
        retry_after_s: the pause that the endpoint asks for in seconds, None without one.
    """
    message = f"HTTP {status}" + (f": {reason}" if reason else "")
    if 300 <= status < 400:
        return ShutOut(f"{message}: it redirects; put the new address into chain.rpc_urls", 60.0)
    if status in (401, 402, 403, 404):
        return ShutOut(f"{message}: it does not serve us; check the key and the path in chain.rpc_urls", 60.0)
    if status == 429 or retry_after_s is not None or _SLOW_DOWN.search(reason):
        return Paused(message, retry_after_s)
    if status in (400, 408, 413) or status >= 500:
        return Overloaded(message)
    return RetryElsewhere(message)


def retry_after_s(header: str | None, now_ms: int) -> float | None:
    """Return the pause (s) of a Retry-After header, seconds or a date, up to `COOL_DOWN_MAX_S`; None if unusable.

    Source: RFC 9110, section 10.2.3.
    """
    if header is None or len(header) > 64:
        return None
    try:
        pause_s = float(header) if re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", header) else _until(header, now_ms)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(pause_s, 0.0), COOL_DOWN_MAX_S)


def _until(header: str, now_ms: int) -> float:
    date = parsedate_to_datetime(header)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_ms / 1000
