"""How the bytes of a call are put together: types, and for each value where it comes from. Pure.

A value is a path into the task's event (`task.message`), one of the words that begin with `$`, a constant (a number,
true or false, bytes as `0x…`), or a list of values for a struct. What a recipe names is checked against the ABI when it
is read, so that a slip is found before the first task and not at it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from eth_abi.grammar import TupleType, parse
from eth_abi.packed import encode_packed
from typing_extensions import TypeAliasType

from watcher.chain.abi import Codec
from watcher.chain.event import Event, Values
from watcher.chain.slip import brief
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Task

_HEX = re.compile(r"0x([0-9a-fA-F]{2})*")
Expression = TypeAliasType("Expression", "str | bool | int | list[Expression]")
_Get = Callable[["Scope"], Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a recipe may use: the task, the values of its event, and the answer as a value of its type."""

    task: Task
    values: Values
    answer: Any


# name -> the ABI types it may stand for, and the value
_WORDS: dict[str, tuple[str, _Get]] = {
    "$index": (r"u?int\d+", lambda scope: scope.task.task_index),
    "$created_block": (r"u?int\d+", lambda scope: scope.task.created_block),
    "$message": (r"bytes", lambda scope: scope.task.message),
    "$quorum_numbers": (r"bytes", lambda scope: scope.task.quorum_numbers),
    "$quorum_threshold": (r"u?int\d+", lambda scope: scope.task.quorum_threshold),
    "$quorum_thresholds": (
        r"bytes",
        lambda scope: bytes([scope.task.quorum_threshold]) * len(scope.task.quorum_numbers),
    ),
    "$task_hash": (r"bytes32", lambda scope: scope.task.task_hash),
    "$chain_id": (r"u?int\d+", lambda scope: scope.task.chain_id),
    "$task_manager": (r"address", lambda scope: "0x" + scope.task.task_manager.hex()),
}


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is always the same, whatever its type."""

    value: Any


class Recipe:
    """abi.encode of values put together from a scope; or abi.encodePacked of them, where it is `packed`."""

    def __init__(
        self,
        types: Sequence[str],
        values: Sequence[Expression | Constant],
        event: Event,
        answer_type: str,
        *,
        packed: bool = False,
    ) -> None:
        if len(types) != len(values):
            raise FixConfiguration(f"{len(types)} types and {len(values)} values: there must be as many")
        self._types = types
        self._encode = partial(encode_packed, types) if packed else Codec(*types).encode
        self._getters = [_getter(one, kind, event, answer_type) for one, kind in zip(values, types, strict=True)]

    def encode(self, scope: Scope) -> bytes:
        """The bytes. Raises Quarantine when a value does not fit its type."""
        try:
            return self._encode([get(scope) for get in self._getters])
        except Exception as error:  # noqa: BLE001 - eth-abi raises its own, and OverflowError and TypeError beside them
            kinds = ", ".join(self._types)
            raise Quarantine(
                f"task {scope.task.task_index} cannot be answered: its values are no ({kinds}): {type(error).__name__}"
            ) from None


def _getter(one: Expression | Constant, kind: str, event: Event, answer_type: str) -> _Get:
    if isinstance(one, Constant):
        constant = one.value
        return lambda _scope: constant
    if isinstance(one, list):
        return _struct(one, kind, event, answer_type)
    if isinstance(one, bool):
        truth = one
        _must(kind == "bool", f"{str(one).lower()} cannot stand for {kind}")
        return lambda _scope: truth
    if isinstance(one, int):
        number = one
        _must(_has_room(kind, number), f"{number} cannot stand for {kind}")
        return lambda _scope: number
    if one == "$answer":
        _must(kind == answer_type, f"$answer is {answer_type} and cannot stand for {kind}")
        return lambda scope: scope.answer
    if one.startswith("0x"):
        octets = _octets(one, kind)
        return lambda _scope: octets
    if one.startswith("$answer."):
        return _part_of_answer(one, kind, answer_type)
    if one.startswith("$"):
        _must(one in _WORDS, f"there is no {one}; there are $answer, {', '.join(_WORDS)}")
        kinds, get = _WORDS[one]
        _must(re.fullmatch(kinds, kind), f"{one} cannot stand for {kind}")
        return get
    place = event.place(one)
    _must(place.parameter.type == kind, f"{one} is {place.parameter.type} and cannot stand for {kind}")
    return lambda scope: place.read(scope.values)


def _struct(parts: Sequence[Expression], kind: str, event: Event, answer_type: str) -> _Get:
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
