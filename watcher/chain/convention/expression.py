"""What stands for a value in a convention file: a path, a constant, a struct, or encoded bytes. Pure.

"task.message"   "$index"   7   true   "0x1901"   ["$index", "$answer"]   {text = "Hello, "}
{types = ["bytes32", "address"], values = ["root", "sender"], packed = true, keccak = true}
"""

from collections.abc import Callable
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
    "each must be a path, a word with $, a whole number, true, false, bytes as 0x..., a list of these,"
    ' {text = "..."}, or {types, values, packed, keccak}'
)
_NAMES = "must be text in quotes (a path), a list of two or more paths, or a table {types, values, packed}"

Expression = TypeAliasType("Expression", "str | bool | int | list[Expression] | Text | Encoding")


@dataclass(frozen=True, slots=True)
class Text:
    """A text that is always the same; stands for `string` and `bytes`."""

    text: str


@dataclass(frozen=True, slots=True)
class Encoding:
    """abi.encode of values, or abi.encodePacked; stands for `bytes`, and its keccak256 for `bytes32` and `uint256`.

    `keccak` None: as the type asks.
    """

    types: tuple[str, ...]
    values: tuple[Expression, ...]
    packed: bool = False
    keccak: bool | None = None


def _expressions(given: Any, depth: int = _DEPTH_LIMIT) -> list[Expression]:
    """Raises ValueError, in one line for every level."""
    if not isinstance(given, list) or depth == 0:
        raise ValueError(_EACH)
    return [_expression(one, depth) for one in given]


def _expression(given: Any, depth: int) -> Expression:
    if isinstance(given, str | bool | int):
        return given
    if isinstance(given, dict) and set(given) == {"text"}:
        if not isinstance(given["text"], str) or len(given["text"]) > _TEXT_LIMIT_CHARS:
            raise ValueError(f"text must be text in quotes, of {_TEXT_LIMIT_CHARS} characters at most")
        return Text(given["text"])
    if isinstance(given, dict) and "types" in given:
        return _encoding(given, depth)
    return _expressions(given, depth - 1)


def _encoding(given: dict[str, Any], depth: int) -> Encoding:
    unknown = next((key for key in given if key not in _KEYS), None)
    if unknown is not None:
        raise ValueError(f"{brief(unknown)}: is not known; there are {', '.join(_KEYS)}")
    types, packed, keccak = given["types"], given.get("packed", False), given.get("keccak")
    if not isinstance(packed, bool) or not isinstance(keccak, bool | None):
        raise ValueError("packed and keccak must be true or false")
    if not isinstance(types, list) or not 1 <= len(types) <= _LENGTH_LIMIT:
        raise ValueError(f"types must be a list of 1 to {_LENGTH_LIMIT} types in quotes")
    kinds = tuple(_type(one) for one in types)
    must_be_packable(kinds, packed=packed)
    values = _expressions(given.get("values"), depth - 1)
    if len(values) != len(kinds):
        raise ValueError(f"{len(kinds)} types and {len(values)} values: there must be as many")
    return Encoding(kinds, tuple(values), packed, keccak)


def _type(given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise ValueError("types must be a list of types in quotes")
    try:
        return parse_type(given).type
    except FixConfiguration as wrong:
        raise ValueError(str(wrong)) from None


def must_be_packable(types: tuple[str, ...], *, packed: bool) -> None:
    """Raise ValueError for what eth-abi packs in another way than Solidity."""
    if packed and any(kind.endswith((")", "]")) for kind in types):
        raise ValueError("packed takes neither structs nor arrays: give their members one by one")


def _values(given: Any) -> list[Expression]:
    found = _expressions(given)
    if not 1 <= len(found) <= _LENGTH_LIMIT:
        raise ValueError(f"must have 1 to {_LENGTH_LIMIT} entries")
    return found


def _naming(given: Any) -> str | tuple[str, ...] | Encoding:
    if isinstance(given, str) and given:
        return given
    if isinstance(given, list) and 2 <= len(given) <= _LENGTH_LIMIT and all(isinstance(one, str) for one in given):
        return tuple(given)
    if not isinstance(given, dict) or "types" not in given:
        raise ValueError(_NAMES)
    found = _encoding(given, _DEPTH_LIMIT)
    if found.keccak is False:
        raise ValueError("an index that is put together is the keccak256 of it: leave keccak out")
    return found


def _checked(check: Callable[[Any], Any]) -> PlainValidator:
    return PlainValidator(check)


Values = Annotated[list[Expression], _checked(_values)]
Naming = Annotated[str | tuple[str, ...] | Encoding, _checked(_naming)]
