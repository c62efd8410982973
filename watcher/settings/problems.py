"""Problems of the configuration, one line each: the key, the reason, and what to write instead.

Invariant: a line never holds the value of a key that can hide a secret, nor of an unknown key.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from watcher import validation
from watcher.redact import HIDDEN, Redactor, hide_urls
from watcher.settings.model import Settings
from watcher.settings.operator import NEEDED
from watcher.settings.section import Section
from watcher.text import did_you_mean, escape

MAX_PROBLEMS = 100
_NAME_LIMIT_CHARS = 80
_VALUE_LIMIT_CHARS = 64

Key = tuple[str, str]


def _section(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _sections(fields: Mapping[str, FieldInfo], prefix: str = "") -> Iterator[tuple[str, type[Section]]]:
    for name, field in fields.items():
        if (model := _section(field)) is not None:
            yield prefix + name, model
            yield from _sections(model.model_fields, f"{prefix}{name}.")


# By their names in the file: a table within a table is "operator.direct".
SECTIONS: Mapping[str, type[Section]] = dict(_sections(Settings.model_fields))
FIELDS: Mapping[Key, FieldInfo] = {
    (section, name): field
    for section, model in SECTIONS.items()
    for name, field in model.model_fields.items()
    if _section(field) is None
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A value as its source holds it. `origin` is "" for the file, else it names the source."""

    value: Any
    origin: str = ""


def is_private(field: FieldInfo) -> bool:
    """Return True if the key's value can be a secret, or hide one."""
    return not field.repr or SecretStr in (field.annotation, *get_args(field.annotation))


def shown_name(name: object) -> str:
    """Return a name from outside, safe to print: it may be a pasted URL, or longer than a screen."""
    text = escape(hide_urls(str(name)[: 4 * _NAME_LIMIT_CHARS]))
    return text if len(text) <= _NAME_LIMIT_CHARS else text[:_NAME_LIMIT_CHARS] + "..."


def limited(problems: Sequence[str]) -> list[str]:
    """Return each problem once, `MAX_PROBLEMS` at most."""
    unique = list(dict.fromkeys(problems))
    more = len(unique) - MAX_PROBLEMS
    return unique if more <= 0 else [*unique[:MAX_PROBLEMS], f"... and {more} problems more"]


def render(error: ValidationError, entries: Mapping[Key, Entry], redactor: Redactor) -> list[str]:
    """Return one line for each error of pydantic.

    Args:
        error: the errors.
        entries: every value with its origin, for the lines to quote.
        redactor: knows the secrets among the values.
    """
    lines = []
    # Neither input nor context is printed as it is: both may hold the value, or the whole table around it.
    for detail in error.errors(include_url=False, include_input=False):
        loc = detail["loc"]
        if detail["type"] in ("extra_forbidden", "invalid_key"):
            lines.append(unknown_key(tuple(str(part) for part in loc)))
        elif len(loc) < 2:
            lines.append(f"{shown_name(loc[0]) if loc else 'settings'}: must be a table of settings")
        else:
            key = key_at(loc)
            if ".".join(key) in SECTIONS and detail["type"] != "value_error":
                lines.append(f"{'.'.join(key)}: must be a table, [{'.'.join(key)}]")
                continue
            lines.append(f"{'.'.join(key)}: {_reason(detail)}{_quoted(key, detail, entries.get(key), redactor)}")
    return lines


def key_at(path: Sequence[object]) -> Key:
    """Return the key that a path of pydantic leads to, without the steps inside its value."""
    section, rest = str(path[0]), [str(part) for part in path[1:]]
    while len(rest) > 1 and f"{section}.{rest[0]}" in SECTIONS:
        section = f"{section}.{rest.pop(0)}"
    return section, rest[0]


def unknown_key(path: tuple[str, ...]) -> str:
    """Return the line for a table or key that does not exist."""
    name_shown = ".".join(shown_name(part) for part in path)
    if len(path) < 2:
        name = path[0] if path else ""
        hint = _elsewhere(name) or did_you_mean(name, list(SECTIONS), show="[{}]".format)
        return f"{name_shown}: is not a known table{hint}"
    section, name = key_at(path)
    tables = [path for path in SECTIONS if path.startswith(f"{section}.")]
    if suggestion := did_you_mean(f"{section}.{name}", tables, show="[{}]".format, cutoff=0.9):
        return f"{name_shown}: is not a known table{suggestion}"
    known = [key for table, key in FIELDS if table == section]
    hint = did_you_mean(name, known, show=f"{section}.{{}}".format) or _elsewhere(name)
    return f"{name_shown}: is not a known setting{hint}"


def _elsewhere(name: str) -> str:
    homes = [f"{section}.{key}" for section, key in FIELDS if key == name]
    return f"; did you mean {' or '.join(homes)}?" if homes else ""


def _reason(detail: ErrorDetails) -> str:
    return NEEDED if detail["type"] == "missing" else validation.reason(detail) or "is not valid"


def _quoted(key: Key, detail: ErrorDetails, entry: Entry | None, redactor: Redactor) -> str:
    """Return the value, where it may be shown, its origin, and the name that was probably meant."""
    field = FIELDS.get(key)
    if entry is None:
        return ""
    notes = []
    if field is not None and not is_private(field):
        notes.append(_shown_value(entry.value, redactor))
    if entry.origin:
        notes.append(f"from {entry.origin}")
    hint = ""
    if detail["type"] == "literal_error" and field is not None and isinstance(entry.value, str):
        names = [str(name) for name in get_args(field.annotation)]
        hint = did_you_mean(entry.value.lower(), names, show='"{}"'.format)
    details = ", ".join(note for note in notes if note)
    return (f" ({details})" if details else "") + hint


def _shown_value(value: Any, redactor: Redactor) -> str:
    if isinstance(value, bool):
        return f"got {str(value).lower()}"
    if isinstance(value, int):
        # Python refuses to spell out a number of many thousand digits.
        return f"got {value}" if abs(value) < 10**20 else "got a number far too big"
    if isinstance(value, float):
        return f"got {value!r}"
    if isinstance(value, str):
        redacted = redactor(value)
        # A text that resembles an address with a key in it is not repeated, in whichever setting it stands.
        is_plain = (
            len(redacted) <= _VALUE_LIMIT_CHARS
            and HIDDEN not in redacted
            and "://" not in redacted
            and "@" not in redacted
        )
        return f'got "{redacted}"' if is_plain else ""
    return ""
