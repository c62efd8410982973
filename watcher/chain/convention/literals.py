"""Values of ABI types as a person writes them on a command line, and their encoding. Pure.

A number is decimal or 0x hex, bytes and addresses are 0x hex, a bool is true or false, a string is itself. An array or
a tuple is JSON: [1, "0x22"].
"""

import re
from collections.abc import Sequence
from typing import Any

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.kinds import members
from watcher.chain.convention.signature import parse_signature
from watcher.errors import FixConfiguration, FixUsage
from watcher.files import parse
from watcher.text import clean

_INTEGER = re.compile(r"-?[0-9]{1,78}|-?0[xX][0-9a-fA-F]{1,64}")
_HEX = re.compile(r"0[xX]([0-9a-fA-F]{2})*")
_ARRAY = re.compile(r"(.+)\[([0-9]*)\]")
_BYTES = re.compile(r"bytes([0-9]*)")
_TEXT_LIMIT_CHARS = 1 << 20


def value_types(text: str) -> tuple[str, ...]:
    """Return the canonical ABI types in `(uint256,address)`, or the one in `uint256`.

    Raises:
        FixUsage: the text names no ABI types.
    """
    inner = text.strip()
    inner = inner if inner.startswith("(") and inner.endswith(")") and _is_one_pair(inner) else f"({inner})"
    try:
        types = tuple(parameter.type for parameter in parse_signature(f"x{inner}").inputs)
        Codec(*types)
    except FixConfiguration as error:
        raise FixUsage(f"--abi: {error}") from None
    except Exception:  # noqa: BLE001 - eth-abi has errors of its own for a type that it does not know
        raise FixUsage(f"--abi: {clean(text, 100)!r} names no ABI types; an example is (uint256,address)") from None
    return types


def encode_literals(types: Sequence[str], texts: Sequence[str]) -> bytes:
    """Return abi.encode of values, each written as text.

    Args:
        types: canonical ABI types, as `value_types` returns them.
        texts: a value for each type.

    Raises:
        FixUsage: a text is no value of its type; the message names its place.
    """
    if len(types) != len(texts):
        raise FixUsage(f"--abi: ({','.join(types)}) takes {len(types)} values, and {len(texts)} are given")
    values = []
    for place, (kind, text) in enumerate(zip(types, texts, strict=True), 1):
        try:
            value = _literal(text, kind)
            Codec(kind).encode([value])
        except ValueError as error:
            reason = str(error)
        except Exception:  # noqa: BLE001 - eth-abi has errors of its own, and raises TypeError and OverflowError
            reason = f"is no {kind}"
        else:
            values.append(value)
            continue
        raise FixUsage(f"--abi: value {place}, {clean(text, 80)!r}, {reason}")
    return Codec(*types).encode(values)


def _literal(text: str, kind: str) -> Any:
    """Return the value that a text stands for. Raises ValueError with the end of a sentence."""
    if len(text) > _TEXT_LIMIT_CHARS:
        raise ValueError("is too long")
    if not (kind.startswith("(") or kind.endswith("]")):
        return _scalar(text, kind)
    try:
        value = parse(text.encode("utf-8", "surrogateescape"))
    except ValueError:
        raise ValueError(f'is no {kind}; write it as JSON, such as [1, "0x22"]') from None
    return _structured(value, kind)


def _structured(value: Any, kind: str) -> Any:
    """Return a value of JSON as a value of an ABI type. Raises ValueError."""
    if array := _ARRAY.fullmatch(kind):
        item, size = array.groups()
        if not isinstance(value, list) or (size and len(value) != int(size)):
            raise ValueError(f"is no {kind}: that is a list of {size or 'any number of'} values")
        return [_structured(part, item) for part in value]
    if kind.startswith("("):
        kinds = members(kind)
        if not isinstance(value, list) or len(value) != len(kinds):
            raise ValueError(f"is no {kind}: that is a list of {len(kinds)} values")
        return tuple(_structured(part, item) for part, item in zip(value, kinds, strict=True))
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"is no {kind}")
    return _scalar(value, kind)


def _scalar(text: str, kind: str) -> Any:
    if kind == "string":
        if not text.isascii() and text.encode("utf-8", "replace").decode() != text:
            raise ValueError("is not UTF-8")
        return text
    if kind == "bool":
        if text not in ("true", "false"):
            raise ValueError("is no bool: write true or false")
        return text == "true"
    if re.fullmatch(r"u?int[0-9]+", kind):
        if not _INTEGER.fullmatch(text):
            raise ValueError(f"is no {kind}: write a whole number, decimal or as 0x hex")
        return int(text, 16 if "x" in text.lower() else 10)
    if kind == "address":
        return _octets(text, kind, 20)
    if size := _BYTES.fullmatch(kind):
        return _octets(text, kind, int(size[1]) if size[1] else None)
    raise ValueError(f"cannot be written for the type {kind}")


def _octets(text: str, kind: str, size: int | None) -> bytes:
    if not _HEX.fullmatch(text):
        raise ValueError(f"is no {kind}: write 0x and two hex digits for each byte")
    octets = bytes.fromhex(text[2:])
    if size is not None and len(octets) != size:
        raise ValueError(f"is no {kind}: that has {size} bytes, not {len(octets)}")
    return octets


def _is_one_pair(text: str) -> bool:
    """Return True if the first bracket closes with the last character."""
    depth = 0
    for place, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return place == len(text) - 1
    return False
