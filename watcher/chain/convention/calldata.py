"""The bytes of a call: ABI types, and for each value its source. Pure.

A value is an expression (expression.py). Its variables begin with `$` and stand for properties of the task. The types
are checked against the event and the answer when the file is read, so that an error shows before the first task.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from eth_hash.auto import keccak

from watcher.chain.convention.abi import Codec, encode_packed
from watcher.chain.convention.event import Event, Values
from watcher.chain.convention.expression import Encoding, Expression, Text
from watcher.chain.convention.kinds import members
from watcher.chain.convention.table import constant_value
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Task
from watcher.validation import brief

_HEX = re.compile(r"0x([0-9a-fA-F]{2})*")
_PATH = re.compile(r"[\w$.]*")
_Get = Callable[["Scope"], Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """The values an encoder may use: the task, its event's values, and the answer as a value of its type.

    `task` is None where only the log is known. `reference_block` is the block of the stakes that count.
    """

    task: Task | None
    values: Values
    answer: Any
    reference_block: int = 0

    @property
    def known_task(self) -> Task:
        """The task. Variables need it, and an encoder without an answer's type has none."""
        assert self.task is not None, "an encoder for an index has no variables"
        return self.task


# name -> the ABI types it may stand for, and the value
_VARIABLES: dict[str, tuple[str, _Get]] = {
    "$index": (r"u?int\d+", lambda scope: scope.known_task.task_index),
    "$created_block": (r"u?int\d+", lambda scope: scope.known_task.created_block),
    "$reference_block": (r"u?int\d+", lambda scope: scope.reference_block),
    "$message": (r"bytes", lambda scope: scope.known_task.message),
    "$quorum_numbers": (r"bytes", lambda scope: scope.known_task.quorum_numbers),
    "$quorum_threshold": (r"u?int\d+", lambda scope: scope.known_task.quorum_threshold),
    "$quorum_thresholds": (
        r"bytes",
        lambda scope: bytes([scope.known_task.quorum_threshold]) * len(scope.known_task.quorum_numbers),
    ),
    "$task_hash": (r"bytes32", lambda scope: scope.known_task.task_hash),
    "$chain_id": (r"u?int\d+", lambda scope: scope.known_task.chain_id),
    "$task_manager": (r"address", lambda scope: "0x" + scope.known_task.task_manager.hex()),
}


@dataclass(frozen=True, slots=True)
class Fixed:
    """A Python value that is the same for every task and needs no check."""

    value: Any


class Encoder:
    """abi.encode of values from a scope; abi.encodePacked where it is `packed`."""

    def __init__(
        self,
        types: Sequence[str],
        values: Sequence[Expression | Fixed],
        event: Event,
        answer_type: str | None,
        *,
        packed: bool = False,
    ) -> None:
        """Check the values against their types.

        Args:
            types: canonical ABI types.
            values: one expression for each type.
            event: the event that paths refer to.
            answer_type: the ABI type of `$answer`; None: only paths and constants are allowed.
            packed: encode as abi.encodePacked does.

        Raises:
            FixConfiguration: a value does not exist, or does not fit its type.
        """
        self._types = types
        self._encode = _compile(types, values, event, answer_type, packed=packed)

    def encode(self, scope: Scope) -> bytes:
        """Return the bytes. Raises Quarantine when a value does not fit its type."""
        try:
            return self._encode(scope)
        except Exception as error:  # noqa: BLE001 - eth-abi raises its own errors, OverflowError and TypeError
            types = ", ".join(self._types)
            subject = "the index" if scope.task is None else f"the answer to task {scope.task.task_index}"
            raise Quarantine(f"{subject} has no encoding as ({types}): {type(error).__name__}") from None


def _compile(
    types: Sequence[str],
    values: Sequence[Expression | Fixed],
    event: Event,
    answer_type: str | None,
    *,
    packed: bool,
) -> Callable[[Scope], bytes]:
    if len(types) != len(values):
        raise FixConfiguration(f"{len(types)} types and {len(values)} values: there must be as many")
    constants = {place: value.value for place, value in enumerate(values) if isinstance(value, Fixed)}
    encode = partial(encode_packed, types) if packed else Codec(*types, constants=constants).encode
    getters = [_getter(value, kind, event, answer_type) for value, kind in zip(values, types, strict=True)]
    return lambda scope: encode([get(scope) for get in getters])


def _getter(value: Expression | Fixed, kind: str, event: Event, answer_type: str | None) -> _Get:
    match value:
        case Fixed():
            return _always(value.value)
        case list():
            return _struct(value, kind, event, answer_type)
        case Text():
            return _always(_text(value, kind))
        case Encoding():
            return _encoding(value, kind, event, answer_type)
        case bool() | int():
            return _always(constant_value(value, kind))
        case _ if value.startswith("0x"):
            return _always(_octets(value, kind))
        case _ if value.startswith("$"):
            return _variable(value, kind, answer_type)
    return _path(value, kind, event)


def _path(path: str, kind: str, event: Event) -> _Get:
    if not _PATH.fullmatch(path):
        raise FixConfiguration(f"'{brief(path)}' is no path; write a constant text as {{text = ...}}")
    place = event.place(path, as_name=kind == "bytes32")
    actual = "bytes32" if place.parameter.is_hashed else place.parameter.type
    _require(actual == kind, f"{path} is {actual} and cannot stand for {kind}")
    return lambda scope: place.read(scope.values)


def _always(value: Any) -> _Get:
    return lambda _scope: value


def _text(text: Text, kind: str) -> str | bytes:
    _require(kind in ("string", "bytes"), f"a text cannot stand for {kind}")
    return text.text if kind == "string" else text.text.encode()


def _encoding(encoding: Encoding, kind: str, event: Event, answer_type: str | None) -> _Get:
    """Return a getter of the bytes for `bytes`, of their keccak256 for `bytes32` and `uint256`."""
    is_hash = kind in ("bytes32", "uint256")
    _require(is_hash or kind == "bytes", f"{{types, values}} gives bytes or a hash, and cannot stand for {kind}")
    if encoding.keccak not in (None, is_hash):
        raise FixConfiguration(f"keccak = {str(encoding.keccak).lower()} cannot stand for {kind}")
    encode = _compile(encoding.types, encoding.values, event, answer_type, packed=encoding.packed)
    if kind == "bytes":
        return encode
    if kind == "bytes32":
        return lambda scope: keccak(encode(scope))
    return lambda scope: int.from_bytes(keccak(encode(scope)))


def _variable(name: str, kind: str, answer_type: str | None) -> _Get:
    _require(answer_type is not None, f"{brief(name)} cannot stand in an index, which is read from the log alone")
    assert answer_type is not None, "refused in the line above"
    if name == "$answer":
        _require(kind == answer_type, f"$answer is {answer_type} and cannot stand for {kind}")
        return lambda scope: scope.answer
    if name.startswith("$answer."):
        return _part_of_answer(name, kind, answer_type)
    _require(name in _VARIABLES, f"there is no {name}; there are $answer, {', '.join(_VARIABLES)}")
    kinds, get = _VARIABLES[name]
    _require(re.fullmatch(kinds, kind), f"{name} cannot stand for {kind}")
    return get


def _struct(parts: Sequence[Expression], kind: str, event: Event, answer_type: str | None) -> _Get:
    kinds = members(kind)
    _require(len(kinds) == len(parts), f"{len(parts)} values cannot stand for {kind}")
    getters = [_getter(part, inner, event, answer_type) for part, inner in zip(parts, kinds, strict=True)]
    return lambda scope: tuple(get(scope) for get in getters)


def _part_of_answer(name: str, kind: str, answer_type: str) -> _Get:
    kinds, position = members(answer_type), name.removeprefix("$answer.")
    _require(position.isdecimal() and int(position) < len(kinds), f"{answer_type} has no {name}")
    _require(kinds[int(position)] == kind, f"{name} is {kinds[int(position)]} and cannot stand for {kind}")
    return lambda scope: scope.answer[int(position)]


def _octets(text: str, kind: str) -> bytes:
    """Return a hex constant as bytes: of any length for `bytes`, four for `bytes4`, twenty for an address."""
    size = "20" if kind == "address" else kind.removeprefix("bytes")
    _require(_HEX.fullmatch(text), f"{brief(text)} is not hex with two digits for each byte")
    octets = bytes.fromhex(text[2:])
    fits = kind == "bytes" or (size.isdecimal() and len(octets) == int(size))
    _require(fits, f"{brief(text)}, {len(octets)} bytes, cannot stand for {kind}")
    return octets


def _require(condition: object, message: str) -> None:
    if not condition:
        raise FixConfiguration(message)
