"""Event and function signatures with the names of their parameters, as Solidity writes them. Pure.

    NewTaskCreated(uint32 indexed taskIndex, (uint256 numberToBeSquared, uint32 taskCreatedBlock) task)

or as the ABI JSON of a compiler. This file reads the names; `kinds.py` checks every type.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from watcher.chain.convention import kinds
from watcher.chain.convention.abi import topic
from watcher.errors import FixConfiguration
from watcher.validation import brief, shortened

_LENGTH_LIMIT_CHARS = 4096
_DEPTH_LIMIT = 8
_PARAMETERS_LIMIT = 64
# The product of the lengths of all fixed arrays in one type; the number of square brackets in it.
_ITEMS_LIMIT = 4096
_DIMENSIONS_LIMIT = 32
_TOKEN = re.compile(r"\s*([A-Za-z_$][\w$]*|\(|\)|,|(?:\[\d*\])+|\S)")
_NAME = re.compile(r"[A-Za-z_$][\w$]*")
# Words beside a type in Solidity, and at the beginning of a pasted struct or event.
_NOISE = frozenset({"memory", "calldata", "storage", "payable", "tuple"})
# Words before the name of a type that a contract defines.
_DEFINING = frozenset({"enum", "contract", "interface", "struct"})
_USER_DEFINED = "write an enum as uint8, a contract as address, a struct as (type,type), any other name as its type"
_LENGTH = re.compile(r"\[(\d+)\]")
_KINDS = frozenset({"event", "function"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `type` is canonical; `components` are the members of a tuple, or of an array's tuples."""

    name: str
    type: str
    components: tuple["Parameter", ...] = ()
    indexed: bool = False

    @property
    def is_tuple(self) -> bool:
        """True for a single struct; False for values and for all arrays."""
        return self.type.endswith(")")

    @property
    def is_hashed(self) -> bool:
        """True where a log holds only the parameter's hash: it is indexed, and longer than one word."""
        return self.indexed and (kinds.is_dynamic(self.type) or self.is_tuple or self.type.endswith("]"))


@dataclass(frozen=True, slots=True)
class Signature:
    """An event or a function. `str()` gives its canonical form, from which topics and selectors are made."""

    name: str
    inputs: tuple[Parameter, ...]

    def __str__(self) -> str:
        return self.name + self.tuple_type

    @property
    def topic(self) -> bytes:
        """The first topic of the event's logs, 32 bytes."""
        return topic(str(self))

    @property
    def tuple_type(self) -> str:
        """All parameters as one tuple type."""
        return f"({','.join(parameter.type for parameter in self.inputs)})"


def parse_signature(text: str) -> Signature:
    """Return the signature in a human-readable text. Raises FixConfiguration for an unreadable one."""
    if len(text) > _LENGTH_LIMIT_CHARS:
        raise FixConfiguration(f"the signature is longer than {_LENGTH_LIMIT_CHARS} characters")
    tokens = [token for token in _TOKEN.findall(text) if token]
    if tokens and tokens[0] in _KINDS:
        tokens = tokens[1:]
    if tokens and tokens[-1] == ";":
        tokens = tokens[:-1]
    if len(tokens) < 3 or not _NAME.fullmatch(tokens[0]) or tokens[1] != "(":
        raise FixConfiguration(f"not a signature such as NewTaskCreated(uint32 indexed index): {text[:100]!r}")
    reader = _Reader(tokens[1:], text)
    inputs = reader.tuple_members()
    reader.end()
    return Signature(tokens[0], inputs)


def parse_type(text: str) -> Parameter:
    """Return one ABI type, such as `(uint32 index, bytes)[]`, where names may stand. Raises FixConfiguration."""
    inputs = parse_signature(f"x({text})").inputs
    if len(inputs) != 1:
        raise FixConfiguration(f"{text[:60]!r} is not one type; several values together are a tuple: (a,b)")
    return inputs[0]


def abi_signature(entry: Mapping[str, Any]) -> Signature:
    """Return the signature in one entry of a compiler's ABI JSON. Raises FixConfiguration."""
    name, inputs = entry.get("name"), entry.get("inputs")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(inputs, list):
        raise FixConfiguration("the ABI's entry has no name or no inputs")
    if entry.get("anonymous"):
        raise FixConfiguration(f"event {name} is anonymous: its logs have no topic to recognise them by")
    return Signature(name, abi_parameters(inputs, 1))


def find_in_abi(abi: Sequence[Any], kind: str, name: str) -> Signature:
    """Return an event or a function of a compiler's ABI.

    Args:
        abi: the entries of the ABI.
        kind: "event" or "function".
        name: its name.

    Raises:
        FixConfiguration: the ABI has no entry of this name, or several.
    """
    entries = [entry for entry in abi if isinstance(entry, dict) and entry.get("type") == kind]
    named = [entry for entry in entries if entry.get("name") == name]
    if len(named) != 1:
        names = sorted({str(entry.get("name")) for entry in entries})
        message = f"the ABI has {len(named)} {kind}s called {brief(name)}; it has {shortened(names) or 'none'}"
        raise FixConfiguration(message + ("; write the whole signature instead of the name" if named else ""))
    return abi_signature(named[0])


def errors_in_abi(abi: Sequence[Any]) -> dict[bytes, Signature]:
    """Return the custom errors of a compiler's ABI by selector. An unreadable entry only costs its explanation."""
    errors = {}
    for entry in abi:
        if isinstance(entry, dict) and entry.get("type") == "error":
            with suppress(FixConfiguration):
                error = abi_signature(entry)
                errors[error.topic[:4]] = error
    return errors


def empty_value(kind: str) -> Any:
    """Return the empty value of a type: zero, no bytes, an empty list, and tuples of these."""
    if items := kinds.array(kind):
        return [empty_value(items[0])] * (items[1] or 0)
    if members := kinds.members(kind):
        return tuple(map(empty_value, members))
    name, size = kinds.sized(kind)
    empty = {"uint": 0, "int": 0, "bool": False, "string": "", "address": "0x" + "00" * 20}
    return empty.get(name, bytes(size))


class _Reader:
    """A reader of parameters from tokens; the first token is the opening bracket."""

    def __init__(self, tokens: Sequence[str], text: str) -> None:
        self._tokens: Iterator[str] = iter(tokens)
        self._text = text
        self._next = next(self._tokens, "")

    def tuple_members(self, depth: int = 1) -> tuple[Parameter, ...]:
        """Read `(type name, ...)`, both brackets included."""
        if depth > _DEPTH_LIMIT:
            raise self._error(f"more than {_DEPTH_LIMIT} levels of tuples")
        self._take("(")
        members: list[Parameter] = []
        while self._next != ")":
            if members:
                self._take(",")
            members.append(self._parameter(depth))
            if len(members) > _PARAMETERS_LIMIT:
                raise self._error(f"more than {_PARAMETERS_LIMIT} parameters")
        self._take(")")
        return tuple(members)

    def end(self) -> None:
        """Check that nothing follows the last bracket."""
        if self._next == "anonymous":
            raise self._error("the event is anonymous: its logs have no topic to recognise them by")
        if self._next:
            raise self._error(f"{self._next!r} after the last bracket")

    def _parameter(self, depth: int) -> Parameter:
        self._skip_noise()
        components: tuple[Parameter, ...] = ()
        if self._next == "(":
            components = self.tuple_members(depth + 1)
            kind = f"({','.join(component.type for component in components)})"
        else:
            kind = self._type_name()
        while self._next.startswith("["):
            kind += self._take()
        self._skip_noise()
        indexed = self._next == "indexed"
        if indexed:
            self._take()
        name = self._take() if _NAME.fullmatch(self._next) else ""
        return Parameter(name, _canonical(kind), components, indexed)

    def _type_name(self) -> str:
        """Read one type, or the name of a type that a contract defines: `Status`, `IMach.Status`, `enum Status`."""
        kind = self._take()
        if kind in _DEFINING and _NAME.fullmatch(self._next):
            kind += " " + self._take()
        while self._next == ".":
            kind += self._take() + self._take()
        return kind

    def _skip_noise(self) -> None:
        while self._next in _NOISE:
            self._take()

    def _take(self, expected: str | None = None) -> str:
        token, self._next = self._next, next(self._tokens, "")
        if not token or (expected is not None and token != expected):
            raise self._error(f"{expected or 'a type'!r} is missing" + (f" before {token!r}" if token else ""))
        return token

    def _error(self, reason: str) -> FixConfiguration:
        return FixConfiguration(f"the signature {self._text[:100]!r} cannot be read: {reason}")


def abi_parameters(entries: Any, depth: int = 1) -> tuple[Parameter, ...]:
    """Return the inputs or outputs of an entry of ABI JSON. Raises FixConfiguration."""
    if not isinstance(entries, list):
        raise FixConfiguration("the ABI's entry has no list of parameters")
    if len(entries) > _PARAMETERS_LIMIT:
        raise FixConfiguration(f"the ABI's entry has more than {_PARAMETERS_LIMIT} parameters")
    return tuple(_abi_parameter(entry, depth) for entry in entries)


def _abi_parameter(entry: Any, depth: int) -> Parameter:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str) or depth > _DEPTH_LIMIT:
        raise FixConfiguration("a parameter of the ABI has no type, or is nested too deep")
    kind, parts = entry["type"], entry.get("components", [])
    components: tuple[Parameter, ...] = ()
    if kind.startswith("tuple"):
        if not isinstance(parts, list):
            raise FixConfiguration("a tuple of the ABI has no components")
        components = abi_parameters(parts, depth + 1)
        kind = f"({','.join(component.type for component in components)}){kind.removeprefix('tuple')}"
    name = entry.get("name", "")
    return Parameter(name if isinstance(name, str) else "", _canonical(kind), components, entry.get("indexed") is True)


def _canonical(kind: str) -> str:
    """Return the type as topics need it: uint becomes uint256. Raises FixConfiguration for an unknown type."""
    if kind.count("[") > _DIMENSIONS_LIMIT or math.prod(map(int, _LENGTH.findall(kind))) > _ITEMS_LIMIT:
        raise FixConfiguration(f"{kind[:60]!r} is an array of more than {_ITEMS_LIMIT} items or too many dimensions")
    canonical = kinds.canonical(kind)
    if canonical is None:
        raise FixConfiguration(f"{kind[:60]!r} is no ABI type; {_USER_DEFINED}")
    return canonical
