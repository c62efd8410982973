"""The emulator's faults, as one table.

A fault applies in one of three places: instead of the work (`BEFORE`: the request is not accepted), to the reply
(`AFTER`: the work is done, but the reply is wrong), or on the chain (`ON_CHAIN`: the reply is right, and the
transaction is not). `after` moves a fault of the first two places to the other one.
"""

import gzip
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Any, Self

MEBIBYTE = 1024 * 1024


class Where(Enum):
    """The place where a fault applies."""

    BEFORE = "before"
    AFTER = "after"
    ON_CHAIN = "landing"


class Delivery(StrEnum):
    """The way the bytes of a reply reach the client."""

    WHOLE = "whole"
    RESET = "reset"  # the connection is reset without a reply
    HANG = "hang"  # no reply for `seconds`, then a reset
    TRUNCATED = "truncated"  # half of the body, then the connection ends
    DRIP = "drip"  # one byte every `seconds`


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP reply before its delivery. `pad_bytes` of filler follow the body."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    delivery: Delivery = Delivery.WHOLE
    seconds: float = 0.0
    pad_bytes: int = 0


class FaultKind(StrEnum):
    """The kinds of faults; docs in `Fault` and at the members."""

    RESET = "reset"
    TIMEOUT = "timeout"
    STATUS = "status"  # `status` with an HTML page, as of a gateway
    TRANSIENT_400 = "transient_400"
    ALREADY_RESPONDED = "already_responded"
    REDIRECT = "redirect"
    MALFORMED_JSON = "malformed_json"
    RAW_BODY = "raw_body"  # 200 with exactly `text`
    TRUNCATED = "truncated"
    EMPTY_BODY = "empty_body"
    HUGE_BODY = "huge_body"
    GZIP_BOMB = "gzip_bomb"
    SLOW_DRIP = "slow_drip"
    WRONG_ID = "wrong_id"
    STRING_ID = "string_id"
    ERROR_AND_RESULT = "error_and_result"
    NULL_RESULT = "null_result"
    TX_HASH_MISSING = "tx_hash_missing"
    TX_HASH_SHORT = "tx_hash_short"
    TX_HASH_GARBAGE = "tx_hash_garbage"
    WRONG_TX_HASH = "wrong_tx_hash"
    WRONG_SIG_HASH = "wrong_sig_hash"
    NEVER_LANDS = "never_lands"
    LANDS_LATE = "lands_late"  # `blocks` later
    REVERTS = "reverts"
    RIVAL = "rival"  # another answer (`text`, hex) lands instead


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. It applies to `times` requests (None: until cleared), to each with `probability`."""

    kind: FaultKind
    times: int | None = None
    probability: float = 1.0
    after: bool | None = None  # None: as in TABLE
    status: int = 502
    retry_after: str | None = None  # the header of a STATUS reply, in seconds or as an HTTP date
    seconds: float = 600.0  # the length of a TIMEOUT; the pause between two bytes of a SLOW_DRIP
    blocks: int = 3
    size_bytes: int = 64 * MEBIBYTE
    text: str | None = None
    location: str = "http://127.0.0.1:9/elsewhere"

    @property
    def where(self) -> Where:
        default = TABLE[self.kind].where
        if default is Where.ON_CHAIN or self.after is None:
            return default
        return Where.AFTER if self.after else Where.BEFORE

    @classmethod
    def from_json(cls, body: Any) -> Self:
        """Return the fault of a control request. Raises ValueError with a message for a person."""
        if not isinstance(body, dict):
            raise ValueError("a fault is a JSON object with a kind")
        unknown = set(body) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(cls.__dataclass_fields__)}")
        values: dict[str, Any] = body | {"kind": FaultKind(str(body.get("kind")))}
        fault = cls(**values)
        for name in ("probability", "seconds", "blocks", "size_bytes", "status"):
            value = getattr(fault, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise ValueError(f"{name} must be a number, 0 or more")
        if fault.times is not None and not isinstance(fault.times, int):
            raise ValueError("times must be a whole number, or null for until cleared")
        if fault.kind is FaultKind.RIVAL:
            bytes.fromhex((fault.text or "").removeprefix("0x"))
        return fault

    def spoil(self, answer: Answer) -> Answer:
        """Return the reply with this fault."""
        return TABLE[self.kind].spoil(self, answer)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of TABLE: the place of a kind of fault, and its change of a reply."""

    where: Where
    spoil: Callable[[Fault, Answer], Answer]


def _rpc(change: Callable[[Fault, dict[str, Any]], dict[str, Any]]) -> Callable[[Fault, Answer], Answer]:
    """Return a change inside a well-formed JSON-RPC reply."""
    return lambda fault, answer: replace(answer, body=json.dumps(change(fault, json.loads(answer.body))).encode())


def _result(**values: Any) -> Callable[[Fault, Answer], Answer]:
    """Return a change of the result; None removes a field. A reply with an error stays unchanged."""

    def change(_: Fault, rpc: dict[str, Any]) -> dict[str, Any]:
        if isinstance(rpc.get("result"), dict):
            rpc["result"] = {k: v for k, v in (rpc["result"] | values).items() if v is not None}
        return rpc

    return _rpc(change)


def _error(code: int, default_text: str) -> Callable[[Fault, Answer], Answer]:
    def spoil(fault: Fault, answer: Answer) -> Answer:
        error = {"code": code, "message": fault.text or default_text}
        body = {"id": json.loads(answer.body).get("id"), "error": error, "jsonrpc": "2.0"}
        return replace(answer, status=400, body=json.dumps(body).encode())

    return spoil


def _page(fault: Fault, _: Answer) -> Answer:
    text = fault.text or f"{fault.status} from the gateway"
    body = f"<html>\r\n<head><title>{text}</title></head>\r\n<body><center><h1>{text}</h1></center></body></html>\r\n"
    headers = {"Content-Type": "text/html"} | ({"Retry-After": fault.retry_after} if fault.retry_after else {})
    return Answer(fault.status, _bytes(body), headers)


def _bytes(text: str) -> bytes:
    """Return any text as bytes, lone surrogates included: a fault may send malformed UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def _bomb(fault: Fault, answer: Answer) -> Answer:
    return Answer(200, _packed(fault.size_bytes), {**answer.headers, "Content-Encoding": "gzip"})


@lru_cache(maxsize=2)
def _packed(size_bytes: int) -> bytes:
    return gzip.compress(b'{"result":"' + b"0" * size_bytes + b'"}', compresslevel=6, mtime=0)


def _keep(_: Fault, answer: Answer) -> Answer:
    return answer


_K, _B, _A, _L = FaultKind, Where.BEFORE, Where.AFTER, Where.ON_CHAIN
_DIAL = "failed to call alert: create sig task failed: dial initOperatorToAggregator connection failed"
_RESPONDED = "failed to call alert: execution reverted: Aggregator has already responded to the task"

TABLE: Mapping[FaultKind, Row] = {
    _K.RESET: Row(_B, lambda _, answer: replace(answer, delivery=Delivery.RESET)),
    _K.TIMEOUT: Row(_B, lambda fault, answer: replace(answer, delivery=Delivery.HANG, seconds=fault.seconds)),
    _K.STATUS: Row(_B, _page),
    _K.TRANSIENT_400: Row(_B, _error(0, _DIAL)),
    _K.ALREADY_RESPONDED: Row(_B, _error(1, _RESPONDED)),
    _K.REDIRECT: Row(_B, lambda fault, _: Answer(307, b"", {"Location": fault.location})),
    _K.MALFORMED_JSON: Row(_A, lambda _, answer: replace(answer, body=answer.body[:-3] + b",,]")),
    _K.RAW_BODY: Row(_A, lambda fault, answer: replace(answer, body=_bytes(fault.text or ""))),
    _K.TRUNCATED: Row(_A, lambda _, answer: replace(answer, delivery=Delivery.TRUNCATED)),
    _K.EMPTY_BODY: Row(_A, lambda _, answer: replace(answer, body=b"")),
    _K.HUGE_BODY: Row(_A, lambda fault, answer: replace(answer, pad_bytes=fault.size_bytes)),
    _K.GZIP_BOMB: Row(_A, _bomb),
    _K.SLOW_DRIP: Row(
        _A, lambda fault, answer: replace(answer, delivery=Delivery.DRIP, seconds=min(fault.seconds, 1.0))
    ),
    _K.WRONG_ID: Row(_A, _rpc(lambda _, rpc: rpc | {"id": 999_999_937})),
    _K.STRING_ID: Row(_A, _rpc(lambda _, rpc: rpc | {"id": str(rpc["id"])})),
    _K.ERROR_AND_RESULT: Row(_A, _rpc(lambda _, rpc: rpc | {"error": {"code": 0, "message": "and yet a result"}})),
    _K.NULL_RESULT: Row(_A, _rpc(lambda _, rpc: rpc | {"result": None})),
    _K.TX_HASH_MISSING: Row(_A, _result(tx_hash=None)),
    _K.TX_HASH_SHORT: Row(_A, _result(tx_hash="0xabcd")),
    _K.TX_HASH_GARBAGE: Row(_A, _result(tx_hash="not a hash \u001b[31m")),
    _K.WRONG_TX_HASH: Row(_A, _result(tx_hash="0x" + "ab" * 32)),
    _K.WRONG_SIG_HASH: Row(_A, _result(sig_hash="0x" + "cd" * 32)),
    _K.NEVER_LANDS: Row(_L, _keep),
    _K.LANDS_LATE: Row(_L, _keep),
    _K.REVERTS: Row(_L, _keep),
    _K.RIVAL: Row(_L, _keep),
}


class FaultQueue:
    """The active faults, oldest first. A request draws at most one for its reply and one for its landing."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._active: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        self._active.extend(faults)

    def clear(self) -> None:
        self._active.clear()

    @property
    def active(self) -> tuple[Fault, ...]:
        return tuple(self._active)

    def draw(self, *places: Where) -> Fault | None:
        """Return the first fault for these places that applies now, and use it up; None: none does."""
        for position, fault in enumerate(self._active):
            if fault.where in places and self._rng.random() < fault.probability:
                if fault.times is not None:
                    left = replace(fault, times=fault.times - 1)
                    self._active[position : position + 1] = [left] if fault.times > 1 else []
                return fault
        return None
