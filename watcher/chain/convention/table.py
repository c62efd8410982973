"""The parts of every table of a convention file: lines, types, addresses, constants. Pure."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.signature import parse_type
from watcher.errors import FixConfiguration
from watcher.validation import brief

NAME = r"[A-Za-z_$][A-Za-z0-9_$]*"
_HEX = re.compile(r"0x([0-9a-fA-F]{2})*")


def _type(text: str) -> str:
    try:
        return parse_type(text).type
    except FixConfiguration as error:
        raise ValueError(str(error)) from None


Line = Annotated[str, Field(min_length=1, max_length=4096)]
Type = Annotated[Line, AfterValidator(_type)]
Types = Annotated[list[Type], Field(min_length=1, max_length=16)]
Address = Annotated[
    str, Field(pattern=r"^0x[0-9a-fA-F]{40}$", description="an address, 0x and 40 hexadecimal digits, in quotes")
]
Constant = str | bool | int


class Table(BaseModel):
    """A frozen, strict and closed table: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


def address_bytes(address: str | None) -> bytes | None:
    """Return an `Address` as 20 bytes; None for None."""
    return None if address is None else bytes.fromhex(address[2:])


def constant_value(constant: Constant, kind: str) -> Any:
    """Return a constant as a value of the ABI type `kind`.

    Raises:
        FixConfiguration: the constant does not fit the type.
    """
    value = _value(constant, kind)
    try:
        Codec(kind).encode([value])
    except Exception:  # noqa: BLE001 - eth-abi raises its own errors, TypeError and OverflowError
        text = brief(constant) if isinstance(constant, str) else str(constant).lower()[:20]
        raise FixConfiguration(f"{text} cannot stand for {brief(kind)}") from None
    return value


def _value(constant: Constant, kind: str) -> Any:
    """Return None, which fits no type, for a constant of another kind."""
    if isinstance(constant, bool):
        return constant if kind == "bool" else None
    if isinstance(constant, int):
        return constant if re.fullmatch(r"u?int\d+", kind) else None
    if kind == "string":
        return constant
    if (kind != "address" and not re.fullmatch(r"bytes\d*", kind)) or not _HEX.fullmatch(constant):
        return None
    octets = bytes.fromhex(constant[2:])
    size = "20" if kind == "address" else kind.removeprefix("bytes")
    return octets if size in ("", str(len(octets))) else None
