"""Text that came from a hook, made safe to log: cut to a limit, on one line, nothing a terminal would obey.

Standard library only. Invariant: what `clean` returns is at most `limit` characters and an ellipsis long.
"""

import sysconfig
from types import TracebackType

from watcher.redact import escape, hide_urls

REASON_LIMIT = 500  # characters of one reason, error text or skip note
LINE_LIMIT = 1000  # characters of one line of captured output

_STDLIB = sysconfig.get_path("stdlib") + "/"


def clean(text: str, limit: int = REASON_LIMIT) -> str:
    """Return `text` escaped, cut to `limit` characters."""
    safe = escape(text[:limit])
    return safe if len(text) <= limit and len(safe) <= limit else safe[:limit] + "..."


def setting(target: str) -> str:
    """Name the setting a problem is about, with its value; of a URL only what is no secret."""
    return f"hook.target = {clean(hide_urls(target), 200)!r}"


def describe(error: BaseException, app_dir: str | None = None) -> str:
    """Say what was raised and where, in one line: `ValueError: no such pair (squaring.py:12)`. Never raises."""
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001  a hook's __str__ may raise anything, SystemExit included
        text = f"its text cannot be shown, __str__ raised {type(second).__name__}"
    where = (
        f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else location(error.__traceback__, app_dir)
    )
    name = clean(type(error).__name__, 100)
    said = f"{name}: {clean(text)}" if text else name
    return f"{said} ({clean(where, 300)})" if where else said


def location(trace: TracebackType | None, app_dir: str | None = None) -> str | None:
    """Return `file:line` of the innermost frame that is the author's, or None if none is.

    A frame under `app_dir` is preferred, then one outside the standard library: an error raised deep inside a library
    is understood at the line that called it. Frames of this package and of the import machinery do not count.
    """
    best, best_rank = None, 0
    home = f"{app_dir}/" if app_dir else None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        rank = _rank(file, trace.tb_frame.f_globals.get("__name__"), home)
        if rank and rank >= best_rank:
            best, best_rank = f"{file}:{trace.tb_lineno}", rank
        trace = trace.tb_next
    return best


def _rank(file: str, module: object, home: str | None) -> int:
    if file.startswith("<frozen importlib") or module == "importlib":
        return 0
    if isinstance(module, str) and module.startswith("watcher.hook."):
        return 0
    if "site-packages" in file:
        return 2
    if home and file.startswith(home):
        return 3
    return 1 if file.startswith(_STDLIB) else 2
