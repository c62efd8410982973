"""How the bytes of a call are put together: types, and for each value where it comes from. Pure.

A value is an expression (expression.py); the words that begin with `$` stand for what is known of the task. What a
recipe names is checked against the ABI when it is read, so that a slip is found before the first task and not at it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from eth_abi.grammar import TupleType, parse
from eth_abi.packed import encode_packed
from eth_utils.crypto import keccak

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.event import Event, Values
from watcher.chain.convention.expression import Encoding, Expression, Text
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Task
from watcher.validation import brief

_HEX = re.compile(r"0x([0-9a-fA-F]{2})*")
_PATH = re.compile(r"[\w$.]*")
_Get = Callable[["Scope"], Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a recipe may use: the task, the values of its event, and the answer as a value of its type.

    `task` is None where only the log is known. `reference_block` is the block of the stakes that count.
    """

    task: Task | None
    values: Values
    answer: Any
    reference_block: int = 0

    @property
    def asked(self) -> Task:
        """The task; only recipes that are compiled with an answer's type use it."""
        assert self.task is not None, "a recipe for an index has no words"
        return self.task


# name -> the ABI types it may stand for, and the value
_WORDS: dict[str, tuple[str, _Get]] = {
    "$index": (r"u?int\d+", lambda scope: scope.asked.task_index),
    "$created_block": (r"u?int\d+", lambda scope: scope.asked.created_block),
    "$reference_block": (r"u?int\d+", lambda scope: scope.reference_block),
    "$message": (r"bytes", lambda scope: scope.asked.message),
    "$quorum_numbers": (r"bytes", lambda scope: scope.asked.quorum_numbers),
    "$quorum_threshold": (r"u?int\d+", lambda scope: scope.asked.quorum_threshold),
    "$quorum_thresholds": (
        r"bytes",
        lambda scope: bytes([scope.asked.quorum_threshold]) * len(scope.asked.quorum_numbers),
    ),
    "$task_hash": (r"bytes32", lambda scope: scope.asked.task_hash),
    "$chain_id": (r"u?int\d+", lambda scope: scope.asked.chain_id),
    "$task_manager": (r"address", lambda scope: "0x" + scope.asked.task_manager.hex()),
}


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is always the same, whatever its type."""

    value: Any


class Recipe:
    """abi.encode of values put together from a scope; or abi.encodePacked of them, where it is `packed`.

    `answer_type` None: only values of the log and constants may stand in it. Raises FixConfiguration.
    """

    def __init__(
        self,
        types: Sequence[str],
        values: Sequence[Expression | Constant],
        event: Event,
        answer_type: str | None,
        *,
        packed: bool = False,
    ) -> None:
        self._types = types
        self._put_together = _encoder(types, values, event, answer_type, packed=packed)

    def encode(self, scope: Scope) -> bytes:
        """The bytes. Raises Quarantine when a value does not fit its type."""
        try:
            return self._put_together(scope)
        except Exception as error:  # noqa: BLE001 - eth-abi raises its own, and OverflowError and TypeError beside them
            kinds = ", ".join(self._types)
            what = "its index" if scope.task is None else f"task {scope.task.task_index} cannot be answered"
            raise Quarantine(f"{what}: its values are no ({kinds}): {type(error).__name__}") from None


def _encoder(
    types: Sequence[str],
    values: Sequence[Expression | Constant],
    event: Event,
    answer_type: str | None,
    *,
    packed: bool,
) -> Callable[[Scope], bytes]:
    if len(types) != len(values):
        raise FixConfiguration(f"{len(types)} types and {len(values)} values: there must be as many")
    encode = partial(encode_packed, types) if packed else Codec(*types).encode
    getters = [_getter(one, kind, event, answer_type) for one, kind in zip(values, types, strict=True)]
    return lambda scope: encode([get(scope) for get in getters])


def _getter(one: Expression | Constant, kind: str, event: Event, answer_type: str | None) -> _Get:
    match one:
        case Constant():
            return _always(one.value)
        case list():
            return _struct(one, kind, event, answer_type)
        case Text():
            return _always(_text(one, kind))
        case Encoding():
            return _put_together(one, kind, event, answer_type)
        case bool():
            _must(kind == "bool", f"{str(one).lower()} cannot stand for {kind}")
            return _always(one)
        case int():
            _must(_has_room(kind, one), f"{one} cannot stand for {kind}")
            return _always(one)
        case _ if one.startswith("0x"):
            return _always(_octets(one, kind))
        case _ if one.startswith("$"):
            return _word(one, kind, answer_type)
    if not _PATH.fullmatch(one):
        raise FixConfiguration(f"'{brief(one)}' is no path; a text that is always the same is written {{text = ...}}")
    place = event.place(one, as_name=kind == "bytes32")
    found = "bytes32" if place.parameter.is_hashed else place.parameter.type
    _must(found == kind, f"{one} is {found} and cannot stand for {kind}")
    return lambda scope: place.read(scope.values)


def _always(value: Any) -> _Get:
    return lambda _scope: value


def _text(one: Text, kind: str) -> str | bytes:
    _must(kind in ("string", "bytes"), f"a text cannot stand for {kind}")
    return one.text if kind == "string" else one.text.encode()


def _put_together(one: Encoding, kind: str, event: Event, answer_type: str | None) -> _Get:
    """Bytes as they are, or their hash, as the type has room for."""
    hashed = kind in ("bytes32", "uint256")
    _must(hashed or kind == "bytes", f"what is put together is bytes, or a hash, and cannot stand for {kind}")
    if one.keccak not in (None, hashed):
        raise FixConfiguration(f"keccak = {str(one.keccak).lower()} cannot stand for {kind}")
    encode = _encoder(one.types, one.values, event, answer_type, packed=one.packed)
    if kind == "bytes":
        return encode
    if kind == "bytes32":
        return lambda scope: keccak(encode(scope))
    return lambda scope: int.from_bytes(keccak(encode(scope)))


def _word(one: str, kind: str, answer_type: str | None) -> _Get:
    _must(answer_type is not None, f"{brief(one)} cannot stand in an index, which is read from the log alone")
    assert answer_type is not None, "just refused"
    if one == "$answer":
        _must(kind == answer_type, f"$answer is {answer_type} and cannot stand for {kind}")
        return lambda scope: scope.answer
    if one.startswith("$answer."):
        return _part_of_answer(one, kind, answer_type)
    _must(one in _WORDS, f"there is no {one}; there are $answer, {', '.join(_WORDS)}")
    kinds, get = _WORDS[one]
    _must(re.fullmatch(kinds, kind), f"{one} cannot stand for {kind}")
    return get


def _struct(parts: Sequence[Expression], kind: str, event: Event, answer_type: str | None) -> _Get:
    kinds = members(kind)
    _must(len(kinds) == len(parts), f"{len(parts)} values cannot stand for {kind}")
    getters = [_getter(one, inner, event, answer_type) for one, inner in zip(parts, kinds, strict=True)]
    return lambda scope: tuple(get(scope) for get in getters)


def _part_of_answer(one: str, kind: str, answer_type: str) -> _Get:
    kinds, at = members(answer_type), one.removeprefix("$answer.")
    _must(at.isdecimal() and int(at) < len(kinds), f"{answer_type} has no {one}")
    _must(kinds[int(at)] == kind, f"{one} is {kinds[int(at)]} and cannot stand for {kind}")
    return lambda scope: scope.answer[int(at)]


def members(kind: str) -> list[str]:
    """The types inside a tuple type; none for any other type."""
    parsed = parse(kind)
    if not isinstance(parsed, TupleType) or parsed.arrlist:
        return []
    return [one.to_type_str() for one in parsed.components]


def _has_room(kind: str, number: int) -> bool:
    match = re.fullmatch(r"(u?)int(\d+)", kind)
    if match is None:
        return False
    bits = int(match[2])
    return 0 <= number < 1 << bits if match[1] else -(1 << bits - 1) <= number < 1 << bits - 1


def _octets(one: str, kind: str) -> bytes:
    """A constant of `bytes`, of as many as `bytes4` says, or of the twenty of an address."""
    size = "20" if kind == "address" else kind.removeprefix("bytes")
    is_hex = _HEX.fullmatch(one) is not None
    _must(is_hex, f"{brief(one)} is not hex with two digits for each byte")
    octets = bytes.fromhex(one[2:])
    fits = kind == "bytes" or (size.isdecimal() and len(octets) == int(size))
    _must(fits, f"{brief(one)}, {len(octets)} bytes, cannot stand for {kind}")
    return octets


def _must(holds: object, words: str) -> None:
    if not holds:
        raise FixConfiguration(words)
