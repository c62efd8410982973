"""Text of the command line, the environment or a credential file, as a value of its setting's type. Pure.

Invariant: text that does not fit stays text, so that the model refuses it together with every other problem.
"""

import re
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from watcher.files import parse as parse_json

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?")
_BETWEEN_URLS = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)|\s+")
_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


def decode(known: FieldInfo, text: str) -> Any:
    """Return text as a value of the setting's type; text that does not fit stays text, which the model refuses."""
    kinds = (known.annotation, get_origin(known.annotation), *get_args(known.annotation))
    stripped = text.strip()
    if tuple in kinds:
        items = _decode_list(stripped)
        return _decode_numbers(items) if int in get_args(known.annotation) and isinstance(items, list) else items
    if bool in kinds and stripped.lower() in _TRUE | _FALSE:
        return stripped.lower() in _TRUE
    if int in kinds and _INTEGER.fullmatch(stripped):
        return int(stripped)
    if float in kinds and _DECIMAL.fullmatch(stripped):
        return float(stripped)
    return text


def _decode_list(text: str) -> Any:
    if text.startswith("["):
        try:
            return parse_json(text.encode())
        except ValueError:
            return text
    return [part for part in _BETWEEN_URLS.split(text) if part]


def _decode_numbers(items: list[Any]) -> list[Any]:
    parts = [part for item in items for part in (item.split(",") if isinstance(item, str) else [item]) if part != ""]
    return [int(part) if isinstance(part, str) and _INTEGER.fullmatch(part) else part for part in parts]
