"""Words from outside, made safe to show in one line of a log, a terminal or a table."""

import re

from watcher.text import escape

WORDS_LIMIT_CHARS = 300

_SPACES = re.compile(r"[ \t\r\n]+")


def clean(text: str, limit_chars: int = WORDS_LIMIT_CHARS) -> str:
    """One line of at most `limit_chars` characters (4 or more) that a terminal may print and UTF-8 can hold.

    Runs of white space become one blank, what a terminal could act on is shown as its escape. Does not look for
    secrets: hide those before, because a cut could leave half of one.
    """
    # An answer may be a megabyte, and nobody reads beyond the limit: cut before the work.
    worked = text[: 8 * limit_chars]
    shown = escape(_SPACES.sub(" ", worked).strip())
    if len(shown) <= limit_chars and len(worked) == len(text):
        return shown
    return shown[: limit_chars - 3] + "..."
