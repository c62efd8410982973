"""Constants of a convention file as values of an ABI type: numbers, true, false, text, bytes and addresses. Pure."""

import re
from typing import Any

from watcher.chain.convention.abi import Codec
from watcher.errors import FixConfiguration
from watcher.validation import brief

Constant = str | bool | int
_HEX = re.compile(r"0x([0-9a-fA-F]{2})*")


def constant(given: Constant, kind: str) -> Any:
    """The value, which fits the type. Raises FixConfiguration for one that does not."""
    value = _value(given, kind)
    try:
        Codec(kind).encode([value])
    except Exception:  # noqa: BLE001 - eth-abi raises its own, and TypeError and OverflowError beside them
        shown = brief(given) if isinstance(given, str) else str(given)[:20]
        raise FixConfiguration(f"{shown} cannot stand for {brief(kind)}") from None
    return value


def _value(given: Constant, kind: str) -> Any:
    """None, which fits no type, for a constant of another kind."""
    if isinstance(given, bool):
        return given if kind == "bool" else None
    if isinstance(given, int):
        return given if re.fullmatch(r"u?int\d+", kind) else None
    if kind == "string":
        return given
    if (kind != "address" and not re.fullmatch(r"bytes\d*", kind)) or not _HEX.fullmatch(given):
        return None
    octets = bytes.fromhex(given[2:])
    size = "20" if kind == "address" else kind.removeprefix("bytes")
    return octets if size in ("", str(len(octets))) else None
