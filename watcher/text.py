"""Text for people and log collectors: values as text, and outside text without control characters and endless lines.

Standard library only, no state.
"""

import re
from collections.abc import Callable, Sequence

REASON_LIMIT = 500  # characters of one reason, error text or skip note
LINE_LIMIT = 1000  # characters of one line of captured output

_NAME_LIMIT_CHARS = 100
_COMPARED_LIMIT_CHARS = 80  # comparing names costs time squared
_SPACES = re.compile(r"[ \t\r\n]+")
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    """Return `text` on one line, with an escape for every character that could move the cursor or hide other text.

    These are the unprintable characters of Unicode: controls, line separators, bidirectional and zero-width marks,
    surrogates.
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else _spell(char) for char in text)


def _spell(char: str) -> str:
    code = ord(char)
    short = _SHORT_ESCAPES.get(char)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def clean(text: str, limit: int = REASON_LIMIT) -> str:
    """Return `text` escaped and cut to `limit` characters."""
    safe = escape(text[:limit])
    return safe if len(text) <= limit and len(safe) <= limit else safe[:limit] + "..."


def one_line(text: str, limit_chars: int) -> str:
    """Return outside text as one printable line of at most `limit_chars` characters (4 or more).

    Runs of white space become one space, and UTF-8 can hold the result. Redact secrets before: a cut could leave half.
    """
    # The text may be a megabyte: cut before the work.
    start = text[: 8 * limit_chars]
    visible = escape(_SPACES.sub(" ", start).strip())
    if len(visible) <= limit_chars and len(start) == len(text):
        return visible
    return visible[: limit_chars - 3] + "..."


def shorten_list(names: Sequence[object], limit: int, *, each: int = _NAME_LIMIT_CHARS) -> str:
    """Return the first `limit` names, safe to print, and the number of those left out: `3, 4 and 17 more`.

    `each` limits the characters of one name.
    """
    visible = ", ".join(clean(str(name), each) for name in names[:limit])
    return visible if len(names) <= limit else f"{visible} and {len(names) - limit} more"


def did_you_mean(name: str, known: Sequence[str], *, show: Callable[[str], str] = str, cutoff: float = 0.6) -> str:
    """Return `; did you mean X?` with the known name nearest to `name`, or "" if none is similar.

    Args:
        name: what a person wrote.
        known: the names there are.
        show: puts the known name into the form the person must write.
        cutoff: how alike the two must be, from 0 (anything) to 1 (equal), as `difflib.get_close_matches` counts.
    """
    import difflib  # late: most starts of a hook's worker need no suggestion

    nearest = difflib.get_close_matches(name[:_COMPARED_LIMIT_CHARS], known, n=1, cutoff=cutoff)
    return f"; did you mean {show(clean(nearest[0], _NAME_LIMIT_CHARS))}?" if nearest else ""


def to_hex(data: bytes) -> str:
    """Return `0x` and two lower-case digits for each byte."""
    return "0x" + data.hex()


def duration_text(duration_ms: float) -> str:
    """Return a duration for people: 12 ms, 3.4 s, 5 min 10 s, 2 h 5 min, 3 d 4 h."""
    if duration_ms < 1000:
        return f"{duration_ms:.0f} ms"
    seconds = duration_ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
