"""The base of the settings' tables: frozen, strict, and without values in errors."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

KIB = 1024
MIB = 1024 * KIB

# The upper bound stands at each field: where both had one, that of the type would win.
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class Section(BaseModel):
    """One table of the file. Strict: `"30"` is not a number and `true` is not 1."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False, validate_default=True
    )
