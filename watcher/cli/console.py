"""The console of every command. Its texts may come from an API, a hook or a chain.

Invariant: no text is read as markup, an emoji code or a link, and no character of it reaches the terminal as a control.
A test allows no other module to make a console.
"""

import sys

from rich.console import Console
from rich.style import Style
from rich.text import Text

from watcher.text import escape


class PlainConsole(Console):
    """Rich's console without markup. A colour comes from a `Text` with a style, never from the text itself."""

    def __init__(self, *, to_stderr: bool = False) -> None:
        super().__init__(file=sys.stderr if to_stderr else None, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, *, style: str | Style = "", **_options: object) -> Text:
        """Return `text` literally, its control characters spelled out. Rich renders cells, titles and lines by this."""
        return Text("\n".join(map(escape, text.split("\n"))), style=style)
