"""The JSON form of values: whole numbers as decimal text, bytes and addresses as 0x hex, named tuples as objects.

The numbers of JSON lose digits beyond 2**53 in many languages. `docs/hook.schema.json` describes the form. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from watcher.abi.types import AbiType, Array, Bytes, FixedBytes, Misfit, Number, Tuple, step_of

_DECIMAL = re.compile(r"-?[0-9]{1,80}", re.ASCII)


def to_json(kind: AbiType, value: Any) -> Any:
    """Return the JSON form of a decoded value. A tuple is an object if all of its members have names, else a list."""
    match kind:
        case Number():
            return str(value)
        case Bytes(is_text=False) | FixedBytes():
            return "0x" + value.hex()
        case Array(item):
            return [to_json(item, part) for part in value]
        case Tuple(members):
            parts = [to_json(member.type, part) for member, part in zip(members, value, strict=True)]
            return dict(zip(kind.names, parts, strict=True)) if kind.names else parts
        case _:
            return value


def as_text(form: Any) -> str:
    """Return a JSON form on one line for people: `number=21, owner=0x22...`. Escape it before it is shown."""
    if isinstance(form, Mapping):
        return ", ".join(f"{name}={_inner_text(part)}" for name, part in form.items())
    if isinstance(form, list):
        return ", ".join(map(_inner_text, form))
    return _inner_text(form)


def _inner_text(form: Any) -> str:
    match form:
        case Mapping():
            return f"({as_text(form)})"
        case list():
            return f"[{', '.join(map(_inner_text, form))}]"
        case bool():
            return "true" if form else "false"
        case _:
            return str(form)


def from_json(kind: AbiType, value: Any) -> Any:
    """Return the Python value of a JSON form; a whole number may be a number or decimal text.

    A part of the wrong type stays as it is: `encode` refuses it.

    Raises:
        Misfit: a text is no hex.
    """
    match kind:
        case Number() if isinstance(value, str) and _DECIMAL.fullmatch(value):
            return int(value)
        case Bytes(is_text=False) | FixedBytes() if isinstance(value, str):
            return _octets(kind, value)
        case Array(item) if isinstance(value, list):
            return _parts([item] * len(value), value, [f"[{position}]" for position in range(len(value))])
        case Tuple(members) if isinstance(value, list) and len(value) == len(members):
            steps = [step_of(kind, position) for position in range(len(members))]
            return tuple(_parts([member.type for member in members], value, steps))
        case Tuple() if isinstance(value, Mapping):
            return _object(kind, value)
        case _:
            return value


def _object(kind: Tuple, value: Mapping[str, Any]) -> dict[str, Any]:
    types = {member.name: member.type for member in kind.members}
    known = [name for name in value if name in types]
    parts = _parts([types[name] for name in known], [value[name] for name in known], [f".{name}" for name in known])
    return {**value, **dict(zip(known, parts, strict=True))}


def _parts(kinds: Sequence[AbiType], values: Sequence[Any], steps: Sequence[str]) -> list[Any]:
    parts = []
    for kind, value, step in zip(kinds, values, steps, strict=True):
        try:
            parts.append(from_json(kind, value))
        except Misfit as misfit:
            raise misfit.within(step) from None
    return parts


def _octets(kind: AbiType, text: str) -> bytes:
    if text.startswith("0x"):
        try:
            octets = bytes.fromhex(text[2:])
        except ValueError:
            octets = b""
        if len(text) == 2 + 2 * len(octets):  # fromhex ignores white space
            return octets
    raise Misfit(f"expected {kind} as 0x and two hex digits for each byte, got other text")
