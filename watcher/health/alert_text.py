"""What alerts say: one line for each thing that is wrong or right again, and what to do.

Pure. Invariant: a message is short plain text without secrets, without control characters, and without anything a chat
service takes for a mention or a command.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from watcher.health import readings as seen
from watcher.text import Redactor, escape

LINES_LIMIT = 30
_LINE_LIMIT_CHARS = 400
_INDICES_SHOWN = 10

MISSED, OTHERWISE, GIVEN_UP = "missed", "answered-otherwise", "given-up"
FINALITY, STOPPED = "finality", "stopped"

# What is wrong, in the subject; and what to do, below it. docs/alerts.md says more of each.
TITLES: Mapping[str, tuple[str, str]] = {
    seen.DEADLINE: ("a task is about to miss its deadline", "see `watcher tasks list`, and the other alerts"),
    seen.API: ("the operator API does not take answers", "check the API's status, address and password"),
    seen.RPC: ("no node answers", "check the nodes of chain.rpc_urls, or add another one"),
    seen.NODE_BEHIND: ("the nodes are behind", "check the nodes' sync, or add another one"),
    seen.FINALITY_BEHIND: ("no block becomes final", "see the chain's status; answers go out meanwhile"),
    seen.NODES_DISAGREE: ("the nodes contradict each other", "find out which node is wrong, and replace it"),
    seen.FINALITY_AT_HEAD: ("the nodes call the newest block final", "set chain.finality to a depth in blocks"),
    seen.CONVENTION: ("the contract contradicts the convention", "correct the convention file (docs/conventions.md)"),
    seen.UNSHOWN: ("accepted answers never come on the chain", "compare [signed] with the contract"),
    seen.STORE: ("the ledger is in trouble", "check disk space and permissions, then `watcher db check`"),
    seen.HOOK: ("the hook fails", "see the log, then `watcher hook try`; reload (SIGHUP) after a correction"),
    seen.RESTORED: ("the ledger is an older copy", "see docs/service.md, Restoring a backup; --release-held ends it"),
    seen.HOOK_CHANGED: ("the hook's files have changed", "reload (SIGHUP) to use them, or put the old ones back"),
    seen.WATCH: ("the watcher makes no progress", "see the log and /readyz"),
    MISSED: ("a task was missed", "see `watcher tasks show` for why"),
    OTHERWISE: ("a task was answered otherwise", "compare your answer with the one on the chain"),
    GIVEN_UP: (
        "a task was given up",
        "correct and reload the hook, then `watcher tasks retry` while the window is open",
    ),
    FINALITY: ("a final block has changed", "the watcher has stopped: find out which chain the nodes are on"),
    STOPPED: ("the watcher has stopped", "see the log; systemd restarts it unless a person has to look"),
}


class Change(StrEnum):
    """What happened to a trouble."""

    BEGAN = "wrong"
    LASTS = "still wrong"
    ENDED = "fine again"
    PASSED = "was wrong for a while"
    ONCE = "happened"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to tell. `since_ms` is when it began."""

    key: str
    turn: Change
    words: str
    since_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent. `kind` is Apprise's: info, success, warning, failure."""

    title: str
    body: str
    kind: str


def compose(who: str, news: Sequence[Item], redactor: Redactor) -> Message:
    """One message for all of the news, the bad first."""
    bad = [one for one in news if one.turn in (Change.BEGAN, Change.LASTS, Change.ONCE)]
    good = [one for one in news if one not in bad]
    first = (bad or good)[0]
    subject = TITLES[first.key][0] if bad else f"over: {TITLES[first.key][0]}"
    more = f" (and {len(news) - 1} more)" if len(news) > 1 else ""
    lines = [line for one in (*bad, *good)[:LINES_LIMIT] for line in _lines(one, redactor)]
    if len(news) > LINES_LIMIT:
        lines.append(f"... and {len(news) - LINES_LIMIT} more, see the log")
    return Message(f"watcher {who}: {subject}{more}", "\n".join(lines), "failure" if bad else "success")


def _lines(one: Item, redactor: Redactor) -> list[str]:
    title, help_words = TITLES[one.key]
    if one.key == seen.DEADLINE and one.turn in (Change.ENDED, Change.PASSED):
        return [f"[over] {title}: it was answered, or its deadline has passed; what was missed is told once final"]
    when = datetime.fromtimestamp(one.since_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if one.turn is not Change.ONCE:
        when = f"since {when}" + (f", for {_span(one.at_ms - one.since_ms)}" if one.at_ms > one.since_ms else "")
    line = f"[{one.turn}] {title}: {harmless(one.words, redactor)} ({when})"
    return [line, f"    -> {help_words}"] if one.turn in (Change.BEGAN, Change.ONCE) else [line]


def harmless(words: str, redactor: Redactor) -> str:
    """Words from outside, for a chat: no mention, no markup, no link to click, on one line."""
    shown = escape(redactor(words))[:_LINE_LIMIT_CHARS]
    return shown.replace("@", "(at)").replace("<", "(").replace(">", ")").replace("`", "'").replace("://", ":")


def indices(count: int, some: Sequence[int]) -> str:
    """A few task indices, and how many there are."""
    shown = ", ".join(map(str, some[:_INDICES_SHOWN]))
    return f"task {shown}" if count == 1 else f"{count} tasks: {shown}" + (", ..." if count > _INDICES_SHOWN else "")


def _span(ms: int) -> str:
    seconds = round(ms / 1000)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
