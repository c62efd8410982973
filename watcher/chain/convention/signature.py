"""Event and function signatures with the names of their parameters, as a developer writes them down. Pure.

    NewTaskCreated(uint32 indexed taskIndex, (uint256 numberToBeSquared, uint32 taskCreatedBlock) task)

or as the ABI JSON of a compiler. eth-abi knows types and no names, so the names are read here and every type is then
given to its grammar: what it does not know is refused.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from eth_abi.exceptions import ParseError
from eth_abi.grammar import TupleType, normalize, parse
from eth_abi.registry import registry

from watcher.chain.convention.abi import topic
from watcher.errors import FixConfiguration
from watcher.validation import brief, shortened

_LENGTH_LIMIT_CHARS = 4096
_DEPTH_LIMIT = 8
_PARAMETERS_LIMIT = 64
# Of all arrays of fixed length within one type, multiplied; and of all pairs of square brackets.
_ITEMS_LIMIT = 4096
_DIMENSIONS_LIMIT = 32
_TOKEN = re.compile(r"\s*([A-Za-z_$][\w$]*|\(|\)|,|(?:\[\d*\])+|\S)")
_NAME = re.compile(r"[A-Za-z_$][\w$]*")
# What Solidity writes beside a type, and what a pasted struct or event begins with.
_NOISE = frozenset({"memory", "calldata", "storage", "payable", "tuple"})
# What Solidity and compilers write before the name of a type that a contract defines.
_DEFINING = frozenset({"enum", "contract", "interface", "struct"})
_USER_DEFINED = (
    "an enum is written as uint8, a contract as address, a struct as (type,type), any other name as its type"
)
_LENGTH = re.compile(r"\[(\d+)\]")
_KINDS = frozenset({"event", "function"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `type` is canonical; `components` are a tuple's members (of an array of tuples: its items')."""

    name: str
    type: str
    components: tuple["Parameter", ...] = ()
    indexed: bool = False

    @property
    def is_tuple(self) -> bool:
        """True for one struct; False for values and for arrays, of structs too."""
        return self.type.endswith(")")

    @property
    def is_hashed(self) -> bool:
        """True where a log holds only the hash of it: indexed, and more than one word."""
        return self.indexed and (bool(parse(self.type).is_dynamic) or self.is_tuple or self.type.endswith("]"))


@dataclass(frozen=True, slots=True)
class Signature:
    """An event or a function. `str()` is its canonical form, which topics and selectors are made of."""

    name: str
    inputs: tuple[Parameter, ...]

    def __str__(self) -> str:
        return f"{self.name}({','.join(one.type for one in self.inputs)})"

    @property
    def topic(self) -> bytes:
        """The first topic of the event's logs, 32 bytes."""
        return topic(str(self))

    @property
    def tuple_type(self) -> str:
        """All parameters as one tuple type."""
        return f"({','.join(one.type for one in self.inputs)})"


def parse_signature(text: str) -> Signature:
    """A human-readable signature. Raises FixConfiguration with what is wrong in it."""
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
    """One ABI type, such as `(uint32 index, bytes)[]`; names may stand in it. Raises FixConfiguration."""
    inputs = parse_signature(f"x({text})").inputs
    if len(inputs) != 1:
        raise FixConfiguration(f"{text[:60]!r} is not one type; several values together are a tuple: (a,b)")
    return inputs[0]


def abi_signature(entry: Mapping[str, Any]) -> Signature:
    """One entry of a compiler's ABI JSON. Raises FixConfiguration."""
    name, inputs = entry.get("name"), entry.get("inputs")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(inputs, list):
        raise FixConfiguration("the ABI's entry has no name or no inputs")
    if entry.get("anonymous"):
        raise FixConfiguration(f"event {name} is anonymous: its logs cannot be told from others")
    return Signature(name, abi_parameters(inputs, 1))


def find_in_abi(abi: Sequence[Any], kind: str, name: str) -> Signature:
    """The event or function called `name` in a compiler's ABI. Raises FixConfiguration when it is not just one."""
    found = [one for one in abi if isinstance(one, dict) and (one.get("type"), one.get("name")) == (kind, name)]
    if len(found) != 1:
        names = sorted({str(one.get("name")) for one in abi if isinstance(one, dict) and one.get("type") == kind})
        words = f"the ABI has {len(found)} {kind}s called {brief(name)}; it has {shortened(names) or 'none'}"
        raise FixConfiguration(words + ("; write the one that is meant out" if found else ""))
    return abi_signature(found[0])


def errors_in_abi(abi: Sequence[Any]) -> dict[bytes, Signature]:
    """The custom errors of a compiler's ABI by selector. They only explain, so that one nobody can read is left out."""
    found = {}
    for entry in abi:
        if isinstance(entry, dict) and entry.get("type") == "error":
            with suppress(FixConfiguration):
                error = abi_signature(entry)
                found[error.topic[:4]] = error
    return found


def empty_value(kind: str) -> Any:
    """The value of a type that says nothing: zero, no bytes, an empty list, and tuples of these."""
    parsed = parse(kind)
    if parsed.arrlist:
        length = parsed.arrlist[-1]
        return [empty_value(kind[: kind.rindex("[")])] * (length[0] if length else 0)
    if isinstance(parsed, TupleType):
        return tuple(empty_value(one.to_type_str()) for one in parsed.components)
    if parsed.base in ("uint", "int"):
        return 0
    empty = {"bool": False, "string": "", "address": "0x" + "00" * 20, "function": bytes(24)}
    return empty.get(parsed.base, bytes(int(parsed.sub or 0)))


class _Reader:
    """Reads parameters from tokens, the first of which is the opening bracket."""

    def __init__(self, tokens: Sequence[str], text: str) -> None:
        self._tokens: Iterator[str] = iter(tokens)
        self._text = text
        self._next = next(self._tokens, "")

    def tuple_members(self, depth: int = 1) -> tuple[Parameter, ...]:
        """`(type name, ...)`, both brackets included."""
        if depth > _DEPTH_LIMIT:
            raise self._wrong(f"more than {_DEPTH_LIMIT} levels of tuples")
        self._take("(")
        members: list[Parameter] = []
        while self._next != ")":
            if members:
                self._take(",")
            members.append(self._parameter(depth))
            if len(members) > _PARAMETERS_LIMIT:
                raise self._wrong(f"more than {_PARAMETERS_LIMIT} parameters")
        self._take(")")
        return tuple(members)

    def end(self) -> None:
        if self._next == "anonymous":
            raise self._wrong("the event is anonymous: its logs cannot be told from others")
        if self._next:
            raise self._wrong(f"{self._next!r} after the last bracket")

    def _parameter(self, depth: int) -> Parameter:
        self._skip_noise()
        components: tuple[Parameter, ...] = ()
        if self._next == "(":
            components = self.tuple_members(depth + 1)
            kind = f"({','.join(one.type for one in components)})"
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
        """One type, or the name of a type that a contract defines: `Status`, `IMach.Status`, `enum Status`."""
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
        taken, self._next = self._next, next(self._tokens, "")
        if not taken or (expected is not None and taken != expected):
            raise self._wrong(f"{expected or 'a type'!r} is missing" + (f" before {taken!r}" if taken else ""))
        return taken

    def _wrong(self, words: str) -> FixConfiguration:
        return FixConfiguration(f"the signature {self._text[:100]!r} cannot be read: {words}")


def abi_parameters(entries: Any, depth: int = 1) -> tuple[Parameter, ...]:
    """The inputs or outputs of an entry of ABI JSON. Raises FixConfiguration."""
    if not isinstance(entries, list):
        raise FixConfiguration("the ABI's entry has no list of parameters")
    if len(entries) > _PARAMETERS_LIMIT:
        raise FixConfiguration(f"the ABI's entry has more than {_PARAMETERS_LIMIT} parameters")
    return tuple(_abi_parameter(one, depth) for one in entries)


def _abi_parameter(entry: Any, depth: int) -> Parameter:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str) or depth > _DEPTH_LIMIT:
        raise FixConfiguration("a parameter of the ABI has no type, or is nested too deep")
    kind, parts = entry["type"], entry.get("components", [])
    components: tuple[Parameter, ...] = ()
    if kind.startswith("tuple"):
        if not isinstance(parts, list):
            raise FixConfiguration("a tuple of the ABI has no components")
        components = abi_parameters(parts, depth + 1)
        kind = f"({','.join(one.type for one in components)}){kind.removeprefix('tuple')}"
    name = entry.get("name", "")
    return Parameter(name if isinstance(name, str) else "", _canonical(kind), components, entry.get("indexed") is True)


def _canonical(kind: str) -> str:
    """The type as topics need it: uint is uint256. Raises FixConfiguration for what eth-abi does not know."""
    if kind.count("[") > _DIMENSIONS_LIMIT or math.prod(map(int, _LENGTH.findall(kind))) > _ITEMS_LIMIT:
        raise FixConfiguration(f"{kind[:60]!r} is an array beyond all measure")
    wanted: str = normalize(kind)  # type: ignore[no-untyped-call]
    try:
        parse(wanted).validate()
        is_known = registry.has_encoder(wanted)
    except (ParseError, ValueError):  # an empty tuple is a ValueError of no kind of its own
        is_known = False
    if not is_known or "fixed" in wanted:  # which no compiler emits
        raise FixConfiguration(f"{kind[:60]!r} is no ABI type; {_USER_DEFINED}")
    return wanted
