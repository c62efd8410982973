"""ABI types by their names: the canonical form, and the parts of a type. Pure.

Source: Contract ABI Specification, docs.soliditylang.org, "Types". The tests hold each function to eth-abi's grammar,
whose import costs a start 0.1 s of CPU and 8 MiB.
"""

import re

_ELEMENTARY = re.compile(r"address|bool|string|bytes|(?:u?int)(?P<bits>[1-9]\d*)|bytes(?P<octets>[1-9]\d*)", re.ASCII)
_ARRAY = re.compile(r"(?P<item>.+)\[(?P<length>[1-9]\d*)?\]", re.ASCII)
# The short names of types, as a whole word: `uint[2]`, `(uint,byte)`.
_SHORT = re.compile(r"\b(uint|int|byte|function)\b", re.ASCII)
_FULL = {"uint": "uint256", "int": "int256", "byte": "bytes1", "function": "bytes24"}
_BITS_MAX, _OCTETS_MAX = 256, 32


def canonical(kind: str) -> str | None:
    """Return the name as topics need it (`uint` becomes `uint256`), None for no type. Fixed-point types are none."""
    name = _SHORT.sub(lambda match: _FULL[match.group()], kind)
    return name if _is_known(name) else None


def array(kind: str) -> tuple[str, int | None] | None:
    """Return the type of an array's items and its length, None for one of any length; None for no array."""
    match = _ARRAY.fullmatch(kind)
    return None if match is None else (match["item"], int(match["length"]) if match["length"] else None)


def members(kind: str) -> list[str]:
    """Return the types inside a tuple type, at its top level; none for any other type, and for arrays of tuples."""
    if not (kind.startswith("(") and kind.endswith(")")):
        return []
    parts, depth = [""], 0
    for char in kind[1:-1]:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def is_dynamic(kind: str) -> bool:
    """Return True for a canonical type whose values have no fixed length: they lie behind the heads."""
    if items := array(kind):
        return items[1] is None or is_dynamic(items[0])
    return kind in ("bytes", "string") or any(map(is_dynamic, members(kind)))


def sized(kind: str) -> tuple[str, int]:
    """Return an elementary type as its name and its number: ("uint", 256), ("bytes", 32), ("bytes", 0)."""
    name = kind.rstrip("0123456789")
    return name, int(kind[len(name) :] or 0)


def _is_known(kind: str) -> bool:
    if items := array(kind):
        return _is_known(items[0])
    if kind.startswith("("):
        return kind.endswith(")") and all(map(_is_known, members(kind)))
    match = _ELEMENTARY.fullmatch(kind)
    if match is None:
        return False
    bits, octets = int(match["bits"] or 8), int(match["octets"] or 1)
    return bits <= _BITS_MAX and bits % 8 == 0 and octets <= _OCTETS_MAX
