"""The values of a convention file: a path, a variable, a constant, a struct, or encoded bytes. Pure.

"task.message"   "$index"   7   true   "0x1901"   ["$index", "$answer"]   {text = "Hello, "}
{types = ["bytes32", "address"], values = ["root", "sender"], packed = true, keccak = true}
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainValidator
from typing_extensions import TypeAliasType

from watcher.chain.convention.signature import parse_type
from watcher.errors import FixConfiguration
from watcher.validation import brief

_DEPTH_LIMIT = 8
_LENGTH_LIMIT = 16
_TEXT_LIMIT_CHARS = 4096
_KEYS = ("types", "values", "packed", "keccak")
_EACH = (
    "each must be a path, a variable with $, a whole number, true, false, bytes as 0x..., a list of these,"
    ' {text = "..."}, or {types, values, packed, keccak}'
)
_SOURCES = "must be text in quotes (a path), a list of two or more paths, or a table {types, values, packed}"

Expression = TypeAliasType("Expression", "str | bool | int | list[Expression] | Text | Encoding")


@dataclass(frozen=True, slots=True)
class Text:
    """A constant text; stands for `string` and `bytes`."""

    text: str


@dataclass(frozen=True, slots=True)
class Encoding:
    """abi.encode of values, or abi.encodePacked; stands for `bytes`, and its keccak256 for `bytes32` and `uint256`.

    `keccak` None: by the type it stands for.
    """

    types: tuple[str, ...]
    values: tuple[Expression, ...]
    packed: bool = False
    keccak: bool | None = None


def _expressions(raw: Any, depth: int = _DEPTH_LIMIT) -> list[Expression]:
    """Return a list of expressions. Raises ValueError, with one line for every level."""
    if not isinstance(raw, list) or depth == 0:
        raise ValueError(_EACH)
    return [_expression(entry, depth) for entry in raw]


def _expression(raw: Any, depth: int) -> Expression:
    if isinstance(raw, str | bool | int):
        return raw
    if isinstance(raw, dict) and set(raw) == {"text"}:
        if not isinstance(raw["text"], str) or len(raw["text"]) > _TEXT_LIMIT_CHARS:
            raise ValueError(f"text must be text in quotes, of {_TEXT_LIMIT_CHARS} characters at most")
        return Text(raw["text"])
    if isinstance(raw, dict) and "types" in raw:
        return _encoding(raw, depth)
    return _expressions(raw, depth - 1)


def _encoding(raw: dict[str, Any], depth: int) -> Encoding:
    unknown = next((key for key in raw if key not in _KEYS), None)
    if unknown is not None:
        raise ValueError(f"{brief(unknown)}: is not known; there are {', '.join(_KEYS)}")
    types, packed, keccak = raw["types"], raw.get("packed", False), raw.get("keccak")
    if not isinstance(packed, bool) or not isinstance(keccak, bool | None):
        raise ValueError("packed and keccak must be true or false")
    if not isinstance(types, list) or not 1 <= len(types) <= _LENGTH_LIMIT:
        raise ValueError(f"types must be a list of 1 to {_LENGTH_LIMIT} types in quotes")
    kinds = tuple(_type(entry) for entry in types)
    must_be_packable(kinds, packed=packed)
    values = _expressions(raw.get("values"), depth - 1)
    if len(values) != len(kinds):
        raise ValueError(f"{len(kinds)} types and {len(values)} values: there must be as many")
    return Encoding(kinds, tuple(values), packed, keccak)


def _type(raw: Any) -> str:
    if not isinstance(raw, str) or not raw:
        raise ValueError("types must be a list of types in quotes")
    try:
        return parse_type(raw).type
    except FixConfiguration as error:
        raise ValueError(str(error)) from None


def must_be_packable(types: tuple[str, ...], *, packed: bool) -> None:
    """Raise ValueError for types that eth-abi packs in another way than Solidity."""
    if packed and any(kind.endswith((")", "]")) for kind in types):
        raise ValueError("packed takes neither structs nor arrays: list their members one by one")


def _values(raw: Any) -> list[Expression]:
    values = _expressions(raw)
    if not 1 <= len(values) <= _LENGTH_LIMIT:
        raise ValueError(f"must have 1 to {_LENGTH_LIMIT} entries")
    return values


def _index_source(raw: Any) -> str | tuple[str, ...] | Encoding:
    if isinstance(raw, str) and raw:
        return raw
    if isinstance(raw, list) and 2 <= len(raw) <= _LENGTH_LIMIT and all(isinstance(path, str) for path in raw):
        return tuple(raw)
    if not isinstance(raw, dict) or "types" not in raw:
        raise ValueError(_SOURCES)
    encoding = _encoding(raw, _DEPTH_LIMIT)
    if encoding.keccak is False:
        raise ValueError("an index made of several values is their keccak256: leave keccak out")
    return encoding


Values = Annotated[list[Expression], PlainValidator(_values)]
IndexSource = Annotated[str | tuple[str, ...] | Encoding, PlainValidator(_index_source)]
