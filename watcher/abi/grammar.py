"""The types of a message or an answer as people write them: `(uint256 number, address owner)`, `uint256[]`. Pure.

Every error says at which character, counted from 1, the text goes wrong.
"""

import re
from collections.abc import Iterator

from watcher.abi.types import (
    AbiType,
    Address,
    Array,
    Bool,
    Bytes,
    FixedBytes,
    Member,
    Number,
    Tuple,
    head_bytes,
)
from watcher.text import clean, did_you_mean

TEXT_LIMIT_CHARS = 4096
_DEPTH_LIMIT = 16
_MEMBERS_LIMIT = 64
# Of all fixed arrays together: the longest message has a few words more.
_HEAD_LIMIT_BYTES = 1 << 20
_TOKEN = re.compile(r"\s*([A-Za-z_$][\w$]*|\[\s*[0-9]*\s*\]|[(),]|\S)", re.ASCII)
_WORD = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_SIZED = re.compile(r"(uint|int|bytes)([1-9][0-9]{0,2})")
# Words that Solidity writes between a type and a name.
_LOCATIONS = frozenset({"memory", "calldata", "storage"})
_PLAIN: dict[str, AbiType] = {
    "uint": Number(256),
    "int": Number(256, is_signed=True),
    "bool": Bool(),
    "address": Address(),
    "bytes": Bytes(),
    "string": Bytes(is_text=True),
}
_SUGGESTED = (
    *(*_PLAIN, "uint8", "uint16", "uint32", "uint64", "uint96", "uint128", "uint160", "uint256"),
    *("int8", "int16", "int32", "int64", "int128", "int256", "bytes1", "bytes4", "bytes20", "bytes32", "tuple"),
)


class BadType(ValueError):
    """The text is no type. The message says what is wrong, and at which character."""


def parse_values(text: str, title: str) -> tuple[Tuple, bool]:
    """Return the values that a text describes, as the tuple whose members `abi.encode` takes.

    `(A, B)` describes the values of `abi.encode(a, b)`. `A`, and `tuple(A, B)`, describe one value: that of
    `abi.encode(a)`, where `tuple(...)` is a struct.

    Args:
        text: the types.
        title: the name of the Python class for the outermost tuple.

    Returns:
        The tuple, and whether it stands for its only member.

    Raises:
        BadType: the text is no type, or one beyond the limits.
    """
    if len(text) > TEXT_LIMIT_CHARS:
        raise BadType(f"is longer than {TEXT_LIMIT_CHARS} characters")
    parser = _Parser(text)
    is_list = parser.token == "("  # noqa: S105 - no password
    member = parser.member(title, 0)
    parser.end()
    if is_list and isinstance(member.type, Tuple):
        return member.type, False
    return Tuple((Member("", member.type),)), True


class _Parser:
    """A reader of a text, token by token; `token` is the next one, "" at the end."""

    def __init__(self, text: str) -> None:
        self._tokens: Iterator[re.Match[str]] = _TOKEN.finditer(text)
        self._end = len(text.rstrip()) + 1
        self.token = ""
        self._place = 0
        self._advance()

    def member(self, title: str, depth: int) -> Member:
        """Read a type, and a name if one follows."""
        kind = self._type(title, depth)
        while self.token in _LOCATIONS:
            self._advance()
        name = ""
        if _WORD.fullmatch(self.token):
            name = self.token
            self._advance()
        return Member(name, kind)

    def end(self) -> None:
        """Check that the text ends here."""
        if self.token:
            raise self._error(f"{self._quoted()} follows a complete type")

    def _type(self, title: str, depth: int) -> AbiType:
        if depth > _DEPTH_LIMIT:
            raise self._error(f"more than {_DEPTH_LIMIT} types are nested here")
        place = self._place
        if self.token == "tuple":  # noqa: S105 - no password
            self._advance()
            if self.token != "(":  # noqa: S105 - no password
                raise self._error("tuple needs its members: tuple(uint256, address)")
        kind = self._tuple(title, depth) if self.token == "(" else self._plain()  # noqa: S105 - no password
        while self.token.startswith("["):
            depth += 1
            if depth > _DEPTH_LIMIT:
                raise self._error(f"more than {_DEPTH_LIMIT} types are nested here")
            kind = self._array(kind)
        if head_bytes(kind) > _HEAD_LIMIT_BYTES:
            raise self._error(f"the type takes more than {_HEAD_LIMIT_BYTES:,} bytes", place)
        return kind

    def _array(self, item: AbiType) -> Array:
        digits = self.token.strip("[] \t\r\n")
        if digits and not 0 < int(digits[:20]) <= _HEAD_LIMIT_BYTES:
            raise self._error("the length of an array is 1 or more, and not that of millions")
        self._advance()
        return Array(item, int(digits) if digits else None)

    def _tuple(self, title: str, depth: int) -> Tuple:
        """Read `(type name, ...)`, both brackets included."""
        self._advance()
        members: list[Member] = []
        while True:
            place = self._place
            member = self.member("", depth + 1)
            if member.name and any(member.name == known.name for known in members):
                raise self._error(f"the name {clean(member.name, 60)} is there twice", place)
            members.append(_titled(member))
            if len(members) > _MEMBERS_LIMIT:
                raise self._error(f"a tuple has {_MEMBERS_LIMIT} members at most")
            if self.token == ")":  # noqa: S105 - no password
                self._advance()
                return Tuple(tuple(members), title)
            if self.token != ",":  # noqa: S105 - no password
                raise self._error(f"a comma or ) is missing before {self._quoted()}")
            self._advance()

    def _plain(self) -> AbiType:
        word, place = self.token, self._place
        if not _WORD.fullmatch(word):
            raise self._error(f"a type is missing before {self._quoted()}")
        self._advance()
        if kind := _PLAIN.get(word):
            if word == "address" and self.token == "payable":  # noqa: S105 - no password
                self._advance()
            return kind
        kind = _sized(word)
        if kind is None:
            hint = did_you_mean(word, _SUGGESTED)
            rule = "" if hint else "; write an enum as uint8, a contract as address, a struct as tuple(...)"
            raise self._error(f"{clean(word, 60)!r} is no ABI type", place, hint or rule)
        return kind

    def _advance(self) -> None:
        match = next(self._tokens, None)
        self.token, self._place = ("", self._end - 1) if match is None else (match[1], match.start(1))

    def _quoted(self) -> str:
        return repr(clean(self.token, 60)) if self.token else "the end"

    def _error(self, reason: str, place: int | None = None, hint: str = "") -> BadType:
        return BadType(f"{reason} (character {(self._place if place is None else place) + 1}){hint}")


def _sized(word: str) -> AbiType | None:
    """Return the type of a word such as `uint8` or `bytes32`, None if there is none."""
    match = _SIZED.fullmatch(word)
    if match is None:
        return None
    base, size = match[1], int(match[2])
    if base == "bytes":
        return FixedBytes(size) if size <= 32 else None
    return Number(size, is_signed=base == "int") if size % 8 == 0 and size <= 256 else None


def _titled(member: Member) -> Member:
    """Return a member whose tuple is titled by the member's name."""
    kind = member.type
    return Member(member.name, Tuple(kind.members, member.name)) if isinstance(kind, Tuple) else member
