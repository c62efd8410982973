"""The emulator's misbehaviours, as one table.

A fault strikes in one of three places: instead of the work (`BEFORE`: the request is not accepted), on the answer
(`AFTER`: the work is done, only the answer lies), or at the chain (`LANDING`: the answer is fine, the transaction is
not). `after` moves a fault of the first two kinds to the other place.
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
    BEFORE = "before"
    AFTER = "after"
    LANDING = "landing"


class Delivery(StrEnum):
    """How the bytes of an answer reach the client."""

    WHOLE = "whole"
    RESET = "reset"  # the connection breaks, nothing is answered
    HANG = "hang"  # nothing is answered for `seconds`, then the connection breaks
    TRUNCATED = "truncated"  # half of the body, then the connection ends
    DRIP = "drip"  # one byte every `seconds`


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer before it is delivered. `pad_bytes` of filler follow the body."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    delivery: Delivery = Delivery.WHOLE
    seconds: float = 0.0
    pad_bytes: int = 0


class FaultKind(StrEnum):
    RESET = "reset"
    TIMEOUT = "timeout"
    STATUS = "status"  # `status` with an HTML page, as a gateway answers
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
    RIVAL = "rival"  # another answer, `text` as hex, lands instead


@dataclass(frozen=True, slots=True)
class Fault:
    """One misbehaviour. Lasts for `times` requests it strikes (None: until cleared), each with `probability`."""

    kind: FaultKind
    times: int | None = None
    probability: float = 1.0
    after: bool | None = None  # None: where the table says
    status: int = 502
    retry_after: str | None = None  # the header of a STATUS answer, in seconds or as an HTTP date
    seconds: float = 600.0  # how long a TIMEOUT hangs; between two bytes for SLOW_DRIP
    blocks: int = 3
    size_bytes: int = 64 * MEBIBYTE
    text: str | None = None
    location: str = "http://127.0.0.1:9/elsewhere"

    @property
    def where(self) -> Where:
        default = TABLE[self.kind].where
        if default is Where.LANDING or self.after is None:
            return default
        return Where.AFTER if self.after else Where.BEFORE

    @classmethod
    def from_json(cls, given: Any) -> Self:
        """From the body of a control request. Raises ValueError with words that say what is wrong."""
        if not isinstance(given, dict):
            raise ValueError("a fault is a JSON object with a kind")
        unknown = set(given) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(cls.__dataclass_fields__)}")
        values: dict[str, Any] = given | {"kind": FaultKind(str(given.get("kind")))}
        fault = cls(**values)
        for name in ("probability", "seconds", "blocks", "size_bytes", "status"):
            value = getattr(fault, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise ValueError(f"{name} must be a number that is not negative")
        if fault.times is not None and not isinstance(fault.times, int):
            raise ValueError("times must be a whole number, or null for until cleared")
        if fault.kind is FaultKind.RIVAL:
            bytes.fromhex((fault.text or "").removeprefix("0x"))
        return fault

    def spoil(self, answer: Answer) -> Answer:
        return TABLE[self.kind].spoil(self, answer)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Row:
    where: Where
    spoil: Callable[[Fault, Answer], Answer]


def _rpc(change: Callable[[Fault, dict[str, Any]], dict[str, Any]]) -> Callable[[Fault, Answer], Answer]:
    """A fault inside a well-formed answer."""
    return lambda fault, answer: replace(answer, body=json.dumps(change(fault, json.loads(answer.body))).encode())


def _result(**values: Any) -> Callable[[Fault, Answer], Answer]:
    """A fault inside the result; None removes a field. An answer that holds an error stays as it is."""

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
    words = fault.text or f"{fault.status} from the gateway"
    body = f"<html>\r\n<head><title>{words}</title></head>\r\n<body><center><h1>{words}</h1></center></body></html>\r\n"
    headers = {"Content-Type": "text/html"} | ({"Retry-After": fault.retry_after} if fault.retry_after else {})
    return Answer(fault.status, _bytes(body), headers)


def _bytes(text: str) -> bytes:
    """Any text, half a character included: what is no UTF-8 is what a fault is for."""
    return text.encode("utf-8", "surrogatepass")


def _bomb(fault: Fault, answer: Answer) -> Answer:
    return Answer(200, _packed(fault.size_bytes), {**answer.headers, "Content-Encoding": "gzip"})


@lru_cache(maxsize=2)
def _packed(size_bytes: int) -> bytes:
    return gzip.compress(b'{"result":"' + b"0" * size_bytes + b'"}', compresslevel=6, mtime=0)


def _keep(_: Fault, answer: Answer) -> Answer:
    return answer


_K, _B, _A, _L = FaultKind, Where.BEFORE, Where.AFTER, Where.LANDING
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


class FaultBook:
    """The faults in force, oldest first. Each request draws at most one for its answer and one for its landing."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._active: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        self._active.extend(faults)

    def clear(self) -> None:
        self._active.clear()

    @property
    def active(self) -> tuple[Fault, ...]:
        return tuple(self._active)

    def draw(self, *places: Where) -> Fault | None:
        """The first fault for these places that strikes now, or None."""
        for position, fault in enumerate(self._active):
            if fault.where in places and self._chance.random() < fault.probability:
                if fault.times is not None:
                    left = replace(fault, times=fault.times - 1)
                    self._active[position : position + 1] = [left] if fault.times > 1 else []
                return fault
        return None
