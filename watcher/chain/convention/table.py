"""The types that every table of a convention file is made of. Pure."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from watcher.chain.convention.signature import parse_type
from watcher.errors import FixConfiguration

NAME = r"[A-Za-z_$][A-Za-z0-9_$]*"


def _type(written: str) -> str:
    try:
        return parse_type(written).type
    except FixConfiguration as wrong:
        raise ValueError(str(wrong)) from None


Line = Annotated[str, Field(min_length=1, max_length=4096)]
Type = Annotated[Line, AfterValidator(_type)]
Types = Annotated[list[Type], Field(min_length=1, max_length=16)]
Address = Annotated[
    str, Field(pattern=r"^0x[0-9a-fA-F]{40}$", description="an address, 0x and 40 hexadecimal digits, in quotes")
]


def octets_of(address: str | None) -> bytes | None:
    """An Address as 20 bytes."""
    return None if address is None else bytes.fromhex(address[2:])


class Table(BaseModel):
    """Frozen, strict, and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)
