"""What is wrong in a convention file, in words: one for each slip, with its place. Pure."""

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from watcher.text import escape

_SHOWN = 10
_NAME_LIMIT_CHARS = 60
_WORDS = {
    "string_type": "must be text in quotes",
    "string_too_short": "must not be empty",
    "list_type": "must be a list",
    "model_type": "must be a table",
    "bool_type": "must be true or false",
}


def told(error: ValidationError, model: type[BaseModel]) -> str:
    """Every slip, ten at most, on one line."""
    slips = list(dict.fromkeys(_slip(one, model) for one in error.errors(include_url=False, include_input=False)))
    more = len(slips) - _SHOWN
    return "; ".join(slips if more <= 0 else [*slips[:_SHOWN], f"and {more} more"])


def shortened(names: Sequence[str]) -> str:
    """Names from a file, fit to be shown: no more of them, and no more of each, than a person reads."""
    shown = [brief(one) for one in names[: 2 * _SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def brief(text: str, limit_chars: int = _NAME_LIMIT_CHARS) -> str:
    """Text from a file, cut and on one line."""
    return escape(text if len(text) <= limit_chars else text[:limit_chars] + "...")


def _slip(detail: ErrorDetails, model: type[BaseModel]) -> str:
    place, field, last = _place(detail["loc"], model)
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1])[:_NAME_LIMIT_CHARS], list(last.model_fields), n=1)
        return f"{place}: is not known" + (f"; did you mean {near[0]}?" if near else "")
    return f"{place}: {_words(detail, field)}"


def _place(loc: Sequence[int | str], model: type[BaseModel]) -> tuple[str, FieldInfo | None, type[BaseModel]]:
    """The key a path leads to, what is known of it, and the table it is in. What lies within its value is left out."""
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
    plain = [getattr(one, "__origin__", one) if hasattr(one, "__metadata__") else one for one in kinds]
    return next((one for one in plain if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _wanted(field: FieldInfo) -> str | None:
    """What the key must be, as its type describes it."""
    if field.description:
        return field.description
    inner = [found for kind in get_args(field.annotation) for found in getattr(kind, "__metadata__", ())]
    return next((one.description for one in inner if isinstance(one, FieldInfo) and one.description), None)


def _words(detail: ErrorDetails, field: FieldInfo | None) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "value_error":
            return str(context["error"])
        case "missing":
            return "is required" + (f": {field.description}" if field is not None and field.description else "")
        case _ if field is not None and (wanted := _wanted(field)):
            return f"must be {wanted}"
        case "greater_than_equal":
            return f"must be {context['ge']} or more"
        case "less_than_equal":
            return f"must be {context['le']} or less"
        case "string_too_long":
            return f"must have {context['max_length']} characters at most"
        case "too_long":
            return f"must have {context['max_length']} entries at most"
        case kind:
            return _WORDS.get(kind) or detail["msg"].replace("Input should be", "must be")
