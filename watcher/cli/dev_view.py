"""The output of `watcher dev`: the tasks as they go, and notes; a screen on a terminal, else plain lines."""

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from watcher.report.payload import payload
from watcher.text import escape, one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_ROWS = 12
_NOTES = 10
_VALUE_LIMIT_CHARS = 70
_NOTE_LIMIT_CHARS = 400
_COLOURS = {
    "final": "green",
    "responded": "blue",
    "sending": "yellow",
    "accepted": "yellow",
    "failed": "red",
    "expired": "red",
}


class View(Protocol):
    """A place for notes and tasks."""

    def note(self, text: str, *, is_bad: bool = False) -> None:
        """Show something that happened. The text may be anybody's."""

    def tasks(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Show the tasks as they are now, as `tasks list --json` prints them."""

    def __enter__(self) -> "View": ...

    def __exit__(self, *_: object) -> None: ...


def open_view() -> View:
    """Return the view for standard output."""
    return Screen() if sys.stdout.isatty() else Lines()


def value_of(data: str | None) -> str:
    """Return a message or an answer, given as 0x hex, with what it could be."""
    if data is None:
        return ""
    known = payload(bytes.fromhex(data[2:]))
    return one_line(known.guess or known.hex, _VALUE_LIMIT_CHARS)


class Lines:
    """One line for each change, for a pipe or a file."""

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write or (lambda line: print(line, flush=True))
        self._states: dict[int, str] = {}

    def note(self, text: str, *, is_bad: bool = False) -> None:
        """Print a line."""
        self._write(("! " if is_bad else "") + escape(one_line(text, _NOTE_LIMIT_CHARS)))

    def tasks(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Print a line for each task whose state is another one than before."""
        for task in tasks:
            if self._states.get(task["task_index"]) != task["state"]:
                self._states[task["task_index"]] = task["state"]
                self._write(escape(_line(task)))

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _line(task: Mapping[str, Any]) -> str:
    answer = value_of(task["response"])
    reason = one_line(task["error"] or "", _NOTE_LIMIT_CHARS) if task["state"] in ("failed", "ready") else ""
    parts = [f"task {task['task_index']} {task['state']}: {value_of(task['message'])}"]
    parts += [f"-> {answer}"] if answer else []
    parts += [f"({reason})"] if reason else []
    return " ".join(parts)


class Screen:
    """A table of the newest tasks that changes in place, with the newest notes below it."""

    def __init__(self) -> None:
        self._notes: deque[tuple[str, bool]] = deque(maxlen=_NOTES)
        self._tasks: Sequence[Mapping[str, Any]] = ()
        self._live: Live | None = None

    def note(self, text: str, *, is_bad: bool = False) -> None:
        """Add a note."""
        self._notes.append((f"{time.strftime('%H:%M:%S')}  {one_line(text, _NOTE_LIMIT_CHARS)}", is_bad))
        self._show()

    def tasks(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Show these tasks."""
        self._tasks = tasks
        self._show()

    def _show(self) -> None:
        if self._live is not None:
            self._live.update(self._picture())

    def _picture(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("task", "asks", "state", "block", "answer", "hook", expand=True)
        for task in self._tasks[-_ROWS:]:
            table.add_row(
                str(task["task_index"]),
                value_of(task["message"]),
                Text(task["state"], style=_COLOURS.get(task["state"], "cyan")),
                str(task["block_number"]),
                value_of(task["response"]) or one_line(task["error"] or "", _VALUE_LIMIT_CHARS),
                (task["hook_version"] or "").rpartition("@")[2][:8],
            )
        notes = [Text(escape(text), style="red" if is_bad else "") for text, is_bad in self._notes]
        return Group(table, *notes, Text("Ctrl-C ends all", style="bright_black"))

    def __enter__(self) -> "Screen":
        from rich.live import Live

        from watcher.cli.console import PlainConsole

        self._live = Live(self._picture(), console=PlainConsole(), refresh_per_second=4)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
