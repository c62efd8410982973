"""The ABI types of values (Contract ABI Specification, docs.soliditylang.org), with the names of their members.

Standard library only, because the workers of hooks import it.
"""

import keyword
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

WORD_BYTES = 32


@dataclass(frozen=True, slots=True)
class Number:
    """`uintN` or `intN`; `bits` is N."""

    bits: int
    is_signed: bool = False

    def __str__(self) -> str:
        return f"{'int' if self.is_signed else 'uint'}{self.bits}"

    @property
    def least(self) -> int:
        """Return the least value."""
        return -(1 << self.bits - 1) if self.is_signed else 0

    @property
    def greatest(self) -> int:
        """Return the greatest value."""
        return (1 << self.bits - self.is_signed) - 1


@dataclass(frozen=True, slots=True)
class Bool:
    """`bool`."""

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True, slots=True)
class Address:
    """`address`."""

    def __str__(self) -> str:
        return "address"


@dataclass(frozen=True, slots=True)
class FixedBytes:
    """`bytesN`; `size_bytes` is N, 1 to 32."""

    size_bytes: int

    def __str__(self) -> str:
        return f"bytes{self.size_bytes}"


@dataclass(frozen=True, slots=True)
class Bytes:
    """`bytes`, or `string`: UTF-8."""

    is_text: bool = False

    def __str__(self) -> str:
        return "string" if self.is_text else "bytes"


@dataclass(frozen=True)
class Array:
    """`T[]`, or `T[N]`; `length` is N, None for a length that the data gives."""

    item: "AbiType"
    length: int | None = None

    def __str__(self) -> str:
        return f"{self.item}[{'' if self.length is None else self.length}]"

    @cached_property
    def is_dynamic(self) -> bool:
        """Return True if a value lies behind an offset."""
        return self.length is None or is_dynamic(self.item)

    @cached_property
    def head_bytes(self) -> int:
        """Return the bytes that a value takes at its place in a tuple."""
        return WORD_BYTES if self.is_dynamic else (self.length or 0) * head_bytes(self.item)


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a tuple; `name` is "" without one."""

    name: str
    type: "AbiType"

    def __str__(self) -> str:
        return f"{self.type} {self.name}".rstrip()


@dataclass(frozen=True)
class Tuple:
    """`(T, U)`: a struct, or the values of a call. `title` names the Python class of its values."""

    members: tuple[Member, ...]
    title: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.members))})"

    @cached_property
    def is_dynamic(self) -> bool:
        """Return True if a value lies behind an offset."""
        return any(is_dynamic(member.type) for member in self.members)

    @cached_property
    def head_bytes(self) -> int:
        """Return the bytes that a value takes at its place in a tuple."""
        return WORD_BYTES if self.is_dynamic else sum(head_bytes(member.type) for member in self.members)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the names of the members if all have one, else ()."""
        names = tuple(member.name for member in self.members)
        return names if all(names) else ()

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Return the name of each member as a Python attribute: `from` is `from_`, `_owner` is `owner`.

        A member without a name, or whose attribute would be there twice, has the attribute `value0`, `value1`, ...
        """
        chosen: list[str] = []
        for position, member in enumerate(self.members):
            name = _attribute(member.name)
            taken = name in chosen or not name
            chosen.append(f"value{position}" if taken else name)
        return tuple(chosen) if len(set(chosen)) == len(chosen) else tuple(f"value{i}" for i in range(len(chosen)))

    @cached_property
    def make(self) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
        """Return the maker of this tuple's values: plain tuples without a name, else named ones."""
        if not any(member.name for member in self.members):
            return tuple
        made: Any = namedtuple(_attribute(self.title) or "values", self.attributes)  # type: ignore[misc]
        # The class has no module to be found in; another process gets a plain tuple.
        made.__reduce__ = _as_plain_tuple  # type: ignore[method-assign,assignment]
        return made._make


def _attribute(name: str) -> str:
    """Return a name as Python can write it behind a dot, "" if there is none."""
    name = name.replace("$", "_").lstrip("_")
    name += "_" if keyword.iskeyword(name) else ""
    return name if name.isidentifier() else ""


def _as_plain_tuple(values: tuple[Any, ...]) -> tuple[type, tuple[Any, ...]]:
    return tuple, (tuple(values),)


AbiType = Number | Bool | Address | FixedBytes | Bytes | Array | Tuple


def is_dynamic(kind: AbiType) -> bool:
    """Return True if a value of the type lies behind an offset."""
    return kind.is_dynamic if isinstance(kind, Array | Tuple) else isinstance(kind, Bytes)


def head_bytes(kind: AbiType) -> int:
    """Return the bytes that a value takes at its place in a tuple: itself, or the offset of a dynamic one."""
    return kind.head_bytes if isinstance(kind, Array | Tuple) else WORD_BYTES


class Misfit(Exception):
    """A value, or its encoding, is not of its type.

    `reason` is one line; `path` leads to the value, the innermost step first; `byte` is the place in the data.
    """

    def __init__(self, reason: str, byte: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.byte = byte
        self.path: list[str] = []

    def within(self, step: str) -> "Misfit":
        """Return this error with one more step of its path: `.owner`, `[3]`."""
        self.path.append(step)
        return self

    def place(self, root: str) -> str:
        """Return where it is: `response.orders[3].owner`."""
        return root + "".join(reversed(self.path))


def step_of(tuple_type: Tuple, position: int) -> str:
    """Return the step from a tuple to one of its members."""
    return f".{tuple_type.members[position].name}" if tuple_type.members[position].name else f"[{position}]"
