"""The bytes of a message or an answer, made from values."""

from typing import Any

from watcher.abi.layout import BadType, Misfit, layout
from watcher.errors import FixConfiguration


def encode(types: str, *values: Any) -> bytes:
    """Return the bytes of values, as `abi.encode` makes them.

    Args:
        types: the ABI types as hook.message and hook.response name them, such as `(uint256 number, address owner)`.
        values: one for each type.

    Raises:
        FixConfiguration: the types are wrong, or a value is not of its type; names it.
    """
    try:
        form = layout("values", types)
        if form is None:
            raise FixConfiguration("the types are empty: write them as hook.message does, such as (uint256 number)")
        return form.encode(values[0] if form.is_single and len(values) == 1 else values)
    except BadType as error:
        raise FixConfiguration(f"the types {types[:200]!r}: {error}") from None
    except Misfit as misfit:
        raise FixConfiguration(f"{misfit.place('values')}: {misfit.reason}") from None
