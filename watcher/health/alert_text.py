"""The text of alerts: a line for each change of a condition, and the advice of `watcher.health.conditions`.

Pure. Invariant: a message is short plain text without secrets, without control characters, and without anything a chat
service takes for a mention or a command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from watcher.health.conditions import DEADLINE, KINDS
from watcher.ledger.audit.roots import Root
from watcher.redact import Redactor
from watcher.text import escape, to_hex

LINES_LIMIT = 30
_LINE_LIMIT_CHARS = 400
_INDICES_SHOWN = 10


class Change(StrEnum):
    """The change of a condition that an alert reports."""

    BEGAN = "wrong"
    LASTS = "still wrong"
    ENDED = "fine again"
    PASSED = "was wrong for a while"
    ONCE = "happened"


@dataclass(frozen=True, slots=True)
class Item:
    """One change of the condition `key`, a key of the table. `since_ms` is when the condition began."""

    key: str
    change: Change
    message: str
    since_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message to people. `kind` is Apprise's: info, success, warning, failure."""

    title: str
    body: str
    kind: str


def compose(watcher: str, items: Sequence[Item], redactor: Redactor) -> Message:
    """Return one message with every item, what went wrong first.

    Args:
        watcher: the name of the watcher, which begins the title.
        items: the changes, at least one.
        redactor: hides the secrets in what the items quote.
    """
    bad = [item for item in items if item.change in (Change.BEGAN, Change.LASTS, Change.ONCE)]
    good = [item for item in items if item not in bad]
    title = KINDS[(bad or good)[0].key].title
    subject = title if bad else f"over: {title}"
    more = f" (and {len(items) - 1} more)" if len(items) > 1 else ""
    lines = [line for item in (*bad, *good)[:LINES_LIMIT] for line in _lines(item, redactor)]
    if len(items) > LINES_LIMIT:
        lines.append(f"... and {len(items) - LINES_LIMIT} more, see the log")
    return Message(f"watcher {watcher}: {subject}{more}", "\n".join(lines), "failure" if bad else "success")


def root_message(watcher: str, root: Root, more: int) -> Message:
    """Return the message about the root of a past day.

    Args:
        watcher: the name of the watcher, which begins the title.
        root: the newest root.
        more: how many older roots came with it.
    """
    older = f"; {more} older roots came with it: see the log, or `watcher audit root`" if more else ""
    lines = (
        f"root {to_hex(root.root)} over the entries {root.first_seq} to {root.last_seq}",
        f"head hash {to_hex(root.head_hash)}",
        f"    -> Keep this message: `watcher audit verify --roots` compares the record with it{older}.",
    )
    return Message(f"watcher {watcher}: audit root of {root.day}", "\n".join(lines), "info")


def _lines(item: Item, redactor: Redactor) -> list[str]:
    kind = KINDS[item.key]
    if item.key == DEADLINE and item.change in (Change.ENDED, Change.PASSED):
        return [
            f"[over] {kind.title}: it was answered, or its deadline has passed; a miss is reported once it is final"
        ]
    when = datetime.fromtimestamp(item.since_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if item.change is not Change.ONCE:
        when = f"since {when}" + (f", for {_span(item.at_ms - item.since_ms)}" if item.at_ms > item.since_ms else "")
    line = f"[{item.change}] {kind.title}: {harmless(item.message, redactor)} ({when})"
    return [line, f"    -> {kind.advice}"] if item.change in (Change.BEGAN, Change.ONCE) else [line]


def harmless(text: str, redactor: Redactor) -> str:
    """Return text from outside fit for a chat: no mention, no markup, no link to click, on one line."""
    cleaned = escape(redactor(text))[:_LINE_LIMIT_CHARS]
    return cleaned.replace("@", "(at)").replace("<", "(").replace(">", ")").replace("`", "'").replace("://", ":")


def indices(count: int, first: Sequence[int]) -> str:
    """Return the number of tasks and the indices of the `first` of them, as text."""
    numbers = ", ".join(map(str, first[:_INDICES_SHOWN]))
    return (
        f"task {numbers}" if count == 1 else f"{count} tasks: {numbers}" + (", ..." if count > _INDICES_SHOWN else "")
    )


def _span(ms: int) -> str:
    seconds = round(ms / 1000)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
