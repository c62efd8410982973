"""The traceback of an error in the author's code, without the frames of the watcher. Standard library only."""

import traceback
from types import TracebackType

_OURS = ("watcher.", "importlib", "asyncio.")
_FRAMES_LIMIT = 200


def own_traceback(error: BaseException) -> str:
    """Return the traceback of an error with its causes, from the first frame of the author's code on.

    Returns "" where the author's code has no part in the error. Never raises.
    """
    try:
        _drop_outer_frames(error)
        if error.__traceback__ is None and not isinstance(error, SyntaxError):
            return ""
        return "".join(traceback.format_exception(error, limit=-_FRAMES_LIMIT)).rstrip("\n")
    except BaseException:  # noqa: BLE001  a hook's error may raise anything while it is shown
        return ""


def _drop_outer_frames(error: BaseException) -> None:
    """Drop the outer frames of the watcher and of the machinery that it calls the hook through."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and _is_outer(trace):
        trace = trace.tb_next
    error.__traceback__ = trace


def _is_outer(trace: TracebackType) -> bool:
    name = trace.tb_frame.f_globals.get("__name__")
    return trace.tb_frame.f_code.co_filename.startswith("<frozen ") or (
        isinstance(name, str) and name.startswith(_OURS)
    )
