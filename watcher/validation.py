"""Checks of values from outside, and pydantic's errors as sentences for the person who wrote the values. Pure."""

import ipaddress
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from watcher.text import clean, did_you_mean, shorten_list

_PROBLEMS_LIMIT = 10
_NAME_LIMIT_CHARS = 60
_REASONS = {
    "string_too_short": "must not be empty",
    "list_type": "must be a list",
    "model_type": "must be a table",
}
# By the first word of pydantic's error type: int_type, int_parsing_size, float_type, string_unicode, ...
_EXPECTED = {
    "int": "must be a whole number",
    "float": "must be a number",
    "finite": "must be a finite number",
    "bool": "must be true or false",
    "string": "must be text",
}


def is_loopback(host: str) -> bool:
    """Return True if `host`, a name or an address without brackets, can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reason(detail: ErrorDetails) -> str | None:
    """Return what is wrong with one value, or None for a kind of error that has no sentence here.

    The sentence never holds the value: "value_error" is raised by checks of ours, which keep to the same rule.
    """
    context: dict[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "value_error":
            return str(context.get("error", "is not valid"))
        case "greater_than_equal":
            return f"must be {_number(context['ge'])} or more"
        case "greater_than":
            return f"must be more than {_number(context['gt'])}"
        case "less_than_equal":
            return f"must be {_number(context['le'])} or less"
        case "literal_error":
            return "must be " + str(context.get("expected", "another word")).replace("'", '"')
        case "string_too_long":
            return f"must have {context['max_length']} characters at most"
        case "too_long":
            return f"must have {context['max_length']} entries at most"
        case kind:
            return _REASONS.get(kind) or _EXPECTED.get(kind.partition("_")[0])


def _number(value: float) -> str:
    return str(int(value) if value == int(value) else value)


def problems(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the problems of a convention file on one line, each with its key; the first ten of them."""
    lines = list(
        dict.fromkeys(_problem(detail, model) for detail in error.errors(include_url=False, include_input=False))
    )
    more = len(lines) - _PROBLEMS_LIMIT
    return "; ".join(lines if more <= 0 else [*lines[:_PROBLEMS_LIMIT], f"and {more} more"])


def shortened(names: Sequence[str]) -> str:
    """Return names from a file, safe to print: the first twenty, each cut."""
    return shorten_list(names, 2 * _PROBLEMS_LIMIT, each=_NAME_LIMIT_CHARS)


def brief(text: str, limit_chars: int = _NAME_LIMIT_CHARS) -> str:
    """Return text from a file, safe to print: on one line, and cut."""
    return clean(text, limit_chars)


def _problem(detail: ErrorDetails, model: type[BaseModel]) -> str:
    key, field, table = _place(detail["loc"], model)
    if detail["type"] == "extra_forbidden":
        return f"{key}: is not known" + did_you_mean(str(detail["loc"][-1]), list(table.model_fields))
    return f"{key}: {_reason(detail, field)}"


def _place(loc: Sequence[int | str], model: type[BaseModel]) -> tuple[str, FieldInfo | None, type[BaseModel]]:
    """Return the key that a path leads to, its field and its table. The part of the path inside a value is left out."""
    names: list[str] = []
    field: FieldInfo | None = None
    for part in loc:
        names.append(brief(str(part)))
        field = model.model_fields.get(str(part))
        inner = _table(field)
        if inner is None:
            break
        model = inner
    return ".".join(names) or "the file", field, model


def _table(field: FieldInfo | None) -> type[BaseModel] | None:
    kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
    plain = [getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind for kind in kinds]
    return next((kind for kind in plain if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _expected(field: FieldInfo) -> str | None:
    """Return the description of the key's value, from the field or from its type."""
    if field.description:
        return field.description
    inner = [part for kind in get_args(field.annotation) for part in getattr(kind, "__metadata__", ())]
    return next((part.description for part in inner if isinstance(part, FieldInfo) and part.description), None)


def _reason(detail: ErrorDetails, field: FieldInfo | None) -> str:
    if detail["type"] == "missing":
        return "is required" + (f": {field.description}" if field is not None and field.description else "")
    if detail["type"] != "value_error" and field is not None and (expected := _expected(field)):
        return f"must be {expected}"
    return reason(detail) or detail["msg"].replace("Input should be", "must be")
