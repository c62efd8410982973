"""A screen of plain lines that is drawn anew every few seconds, until Ctrl-C."""

import sys
import time
from collections.abc import Callable, Sequence


def is_live() -> bool:
    """Return True if stdout is a terminal, so that a screen can be drawn anew."""
    return sys.stdout.isatty()


def run_live(lines: Callable[[int, int], Sequence[str]], every_s: float) -> None:
    """Draw the lines on the terminal's other screen every `every_s` seconds. Ctrl-C ends it.

    `lines` takes width and height of the terminal in characters; what does not fit is cut.
    """
    from rich.live import Live
    from rich.text import Text

    from watcher.cli.console import PlainConsole

    console = PlainConsole()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                width, height = console.size
                drawn = lines(width, height)[:height]
                live.update(Text("\n".join(line[:width] for line in drawn), no_wrap=True), refresh=True)
                time.sleep(every_s)
    except KeyboardInterrupt:
        pass
