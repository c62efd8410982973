"""The three forms of a log line: text, text for the journal, and JSON.

A line of ours is an event, a sentence for people and its fields: `rpc.node_down: the node is out of use node=... `.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any

from watcher.daemon.stderr import Stderr

if TYPE_CHECKING:
    from loguru import Record

# syslog(3) priorities, which journald reads from a prefix (sd-daemon(3)).
PRIORITIES = {"TRACE": 7, "DEBUG": 7, "INFO": 6, "SUCCESS": 5, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
# The field of a record that holds its exception as text.
EXCEPTION = "_exception"
# The function of a record that a library wrote: its text never names an event.
LIBRARY = "_library"
_COLOURS = {
    "TRACE": "2",
    "DEBUG": "2",
    "INFO": "32",
    "SUCCESS": "32",
    "WARNING": "33",
    "ERROR": "31",
    "CRITICAL": "1;31",
}
_OWN_FIELDS = frozenset({"time", "level", "logger", "event", "message", "exception"})
_EVENT = re.compile(r"([a-z_]+(?:\.[a-z_]+)+): (.*)", re.DOTALL)
_BARE = re.compile(r"[^\s\"=]+")

LineFormat = Callable[["Record"], str]


def choose_format(name: str, out: Stderr, environ: Mapping[str, str]) -> LineFormat:
    """Return the format for a setting ("auto", "text", "json") and a stream.

    Args:
        name: the setting log.format.
        out: where the lines go; a terminal gets colours.
        environ: NO_COLOR and JOURNAL_STREAM are read from it.
    """
    if name == "json":
        return json_line
    if out.is_terminal():
        return text_line if name == "text" or environ.get("NO_COLOR") else coloured_line
    return journal_line if out.is_journal(environ.get("JOURNAL_STREAM", "")) else text_line


def text_line(record: "Record") -> str:
    """Return `time level event: sentence field=value ...`."""
    return f"{_utc(record)} {record['level'].name:<7} {_sentence(record)}"


def coloured_line(record: "Record") -> str:
    """Return the line for a terminal, with the local time of day."""
    level = record["level"].name
    clock = record["time"].strftime("%H:%M:%S")
    return f"\x1b[2m{clock}\x1b[0m \x1b[{_COLOURS.get(level, 0)}m{level:<7}\x1b[0m {_sentence(record)}"


def journal_line(record: "Record") -> str:
    """Return the line for journald, which reads the priority from the prefix and keeps the time."""
    return f"<{PRIORITIES.get(record['level'].name, 6)}>{_sentence(record)}"


def json_line(record: "Record") -> str:
    """Return one flat JSON object: time, level, logger, event (of our lines), message, and the fields."""
    fields = dict(record["extra"])
    exception = fields.pop(EXCEPTION, None)
    event, sentence = _event(record)
    line: dict[str, Any] = {"time": _utc(record), "level": record["level"].name.lower(), "logger": record["name"]}
    if event is not None:
        line["event"] = event
    line["message"] = sentence
    line |= {f"extra_{name}" if name in _OWN_FIELDS else name: value for name, value in fields.items()}
    if exception is not None:
        line["exception"] = exception
    return json.dumps(line, ensure_ascii=False, default=str)


def _event(record: "Record") -> tuple[str | None, str]:
    match = None if record["function"] == LIBRARY else _EVENT.fullmatch(record["message"])
    return (None, record["message"]) if match is None else (match[1], match[2])


def _sentence(record: "Record") -> str:
    """Return the part of a line after time and level. A line of a library begins with the library's name."""
    fields = dict(record["extra"])
    exception = fields.pop(EXCEPTION, None)
    event, sentence = _event(record)
    parts = [f"{event or (record['name'] or '').removeprefix('watcher.')}: {sentence}"]
    parts += [f"{name}={_as_text(value)}" for name, value in fields.items()]
    line = " ".join(parts)
    return line if exception is None else f"{line}: {exception}"


def _as_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "none" if value is None else str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _utc(record: "Record") -> str:
    moment = record["time"].astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
