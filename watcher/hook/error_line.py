"""An error of the author's code on one line, with its place in that code. Standard library only."""

import os
from pathlib import Path
from types import TracebackType

from watcher.text import clean

_STDLIB = f"{Path(os.__file__).parent}/"


def describe(error: BaseException, app_dir: str | None = None) -> str:
    """Return an exception and its place on one line: `ValueError: no such pair (squaring.py:12)`. Never raises."""
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001  a hook's __str__ may raise anything, SystemExit included
        text = f"its text cannot be shown, __str__ raised {type(second).__name__}"
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}" if error.filename and error.lineno else None
    else:
        where = location(error.__traceback__, app_dir)
    name = clean(type(error).__name__, 100)
    message = f"{name}: {clean(text)}" if text else name
    return f"{message} ({clean(where, 300)})" if where else message


def location(trace: TracebackType | None, app_dir: str | None = None) -> str | None:
    """Return `file:line` of the innermost frame in the author's code, or None if there is none.

    A frame under `app_dir` comes first, then one outside the standard library: the line that called a library explains
    an error from deep inside it. Frames of this package and of the import machinery do not count.
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
