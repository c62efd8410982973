"""The log: one record, one line, on stderr, without secrets.

Every module says `from loguru import logger` and `logger.bind(task=index)`; this one decides how that looks.
Rule for callers: the message is a constant, and what comes from outside goes in as an argument
(`logger.info("node {} answered {}", host, words)`); a test reads the sources for it. Invariant: no record of any
content makes a logging call raise, wait, or print more than one line.
"""

import contextlib
import json
import logging
import os
import select
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from loguru import logger

from watcher.errors import FixConfiguration
from watcher.text import Redactor

PATIENCE_MS = 200
# A pipe that is ready takes this much at once (PIPE_BUF), so that a write after poll does not block.
_CHUNK_BYTES = 4096


class Stream(Protocol):
    """Anything with a file descriptor."""

    def fileno(self) -> int: ...


class Stderr:
    """A file descriptor for whole lines. `stream` is only asked for its descriptor; None throws everything away."""

    def __init__(self, stream: Stream | None = None) -> None:
        self._handle = _handle_of(sys.stderr if stream is None else stream)
        self._lost_lines = 0
        self._stalled = False
        self._torn = False  # the last line was cut in the middle

    def is_terminal(self) -> bool:
        """Whether a person is watching."""
        try:
            return self._handle is not None and os.isatty(self._handle)
        except OSError:
            return False

    def is_journal(self, named: str) -> bool:
        """Whether this is the stream that `JOURNAL_STREAM` names, as device and inode; a child inherits the name."""
        try:
            found = None if self._handle is None else os.fstat(self._handle)
        except OSError:
            return False
        return found is not None and named == f"{found.st_dev}:{found.st_ino}"

    def write(self, line: str) -> bool:
        """Write one line. False: it was lost, all or in part."""
        if self._handle is None:
            return False
        data = (line.rstrip("\n") + "\n").encode("utf-8", "backslashreplace")
        try:
            if self._lost_lines or self._torn:
                note = f"{self._lost_lines} log lines were lost: nobody was reading standard error\n".encode()
                if not self._put((b"\n" if self._torn else b"") + note):
                    return self._lose()
                self._lost_lines, self._torn = 0, False
            return self._put(data) or self._lose()
        except (OSError, ValueError):  # closed, broken, full
            return self._lose()

    def _lose(self) -> bool:
        self._lost_lines += 1
        return False

    def _put(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            # Once stalled, wait no more: a daemon that waits for its log at every line is as good as dead.
            if not self._has_room(0 if self._stalled else PATIENCE_MS):
                self._stalled = True
                self._torn = self._torn or len(view) < len(data)
                return False
            assert self._handle is not None
            view = view[os.write(self._handle, view[:_CHUNK_BYTES]) :]
            self._stalled = False
        return True

    def _has_room(self, patience_ms: int) -> bool:
        assert self._handle is not None
        poller = select.poll()
        poller.register(self._handle, select.POLLOUT)
        return bool(poller.poll(patience_ms))


def _handle_of(stream: Stream | None) -> int | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream is not None:
            return stream.fileno()
    return None


if TYPE_CHECKING:
    from loguru import Message, Record

# Libraries that say too much, or say it with whole URLs, below this.
_QUIET = (
    *("aiohttp", "alembic", "apscheduler", "asyncio", "httpcore", "httpx", "pydantic_settings", "sqlalchemy"),
    *("urllib3", "web3", "websockets"),
)
_PRIORITIES = {"TRACE": 7, "DEBUG": 7, "INFO": 6, "SUCCESS": 5, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
_COLOURS = {
    "TRACE": "2",
    "DEBUG": "2",
    "INFO": "32",
    "SUCCESS": "32",
    "WARNING": "33",
    "ERROR": "31",
    "CRITICAL": "1;31",
}
_OWN_FIELDS = frozenset({"time", "level", "logger", "message", "exception"})
_EXCEPTION = "_exception"
_FRAMES = 40
_EXTRA_LIMIT_CHARS = 1024

Shape = Callable[["Record"], str]


def set_up(
    level: str = "info",
    format: str = "auto",  # noqa: A002 - the name of the setting
    secrets: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
    stream: Stream | None = None,
) -> None:
    """Send everything that is logged, by us or by a library, to stderr. May be called again, with more secrets.

    Args:
        level: the least important records shown: trace, debug, info, warning, error.
        format: "text", "json", or "auto" for text that is coloured on a terminal.
        secrets: what must not be seen, as `Settings.secrets()` lists it.
        environ: `JOURNAL_STREAM` (if it names the stream: priority prefix, no time) and `NO_COLOR` are read from it.
        stream: where to, if not to stderr.

    Raises:
        FixConfiguration: there is no such level.
    """
    if level.upper() not in _PRIORITIES:
        raise FixConfiguration('log level: must be "trace", "debug", "info", "warning" or "error"')
    out = Stderr(stream)
    shape = _shape(format, out, environ)
    redactor = Redactor(secrets)
    logger.remove()
    logger.configure(patcher=lambda record: _clean(record, redactor))
    # catch=False: loguru's own report of a failing sink would print the record; `_write` lets nothing out.
    logger.add(
        lambda message: _write(message, shape, out),
        level=level.upper(),
        format="{message}",
        colorize=False,
        backtrace=False,
        diagnose=False,
        catch=False,
    )
    _bridge()


def report_crashes() -> None:
    """Log what nobody caught, in threads and finalizers too, in place of Python's raw traceback on stderr."""

    def unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            logger.opt(exception=(kind, error, trace)).critical("Unexpected error; this is a bug, please report it")

    sys.excepthook = unhandled
    threading.excepthook = lambda args: unhandled(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    sys.unraisablehook = lambda args: unhandled(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


def _clean(record: "Record", redactor: Redactor) -> None:
    """Make the record safe before any sink sees it: all text redacted, on one line; the exception turned to text."""
    try:
        caught = record["exception"]
        record["exception"] = None
        record["message"] = redactor(record["message"])
        record["extra"] = {redactor(str(name)): _plain(value, redactor) for name, value in record["extra"].items()}
        if caught is not None and caught.value is not None:
            record["extra"][_EXCEPTION] = redactor(_exception_text(caught.value))
    except Exception as error:  # noqa: BLE001 - a value whose __str__ fails, say: the daemon goes on
        record["message"] = f"(a log record that could not be shown: {type(error).__name__})"
        record["exception"] = None
        record["extra"] = {}


def _plain(value: object, redactor: Redactor) -> object:
    if value is None or isinstance(value, bool):
        return value
    text = "0x" + value.hex() if isinstance(value, bytes) else str(value)
    shown = redactor(text)[:_EXTRA_LIMIT_CHARS]
    return value if isinstance(value, (int, float)) and shown == text else shown


def _exception_text(error: BaseException) -> str:
    """The last line first, because it says what went wrong and a long text is cut at the end."""
    summary = traceback.format_exception_only(error)[-1].strip()
    frames = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-_FRAMES))
    return " | ".join([summary, *(line.strip() for line in frames.splitlines() if line.strip(" ^~|+-"))])


def _write(message: "Message", shape: Shape, out: Stderr) -> None:
    try:
        out.write(shape(message.record))
    except Exception:  # noqa: BLE001, S110 - there is no other place to complain to
        pass


def _shape(format_name: str, out: Stderr, environ: Mapping[str, str]) -> Shape:
    if format_name == "json":
        return _json
    if out.is_terminal():
        return _text if format_name == "text" or environ.get("NO_COLOR") else _coloured
    return _journal if out.is_journal(environ.get("JOURNAL_STREAM", "")) else _text


def _said(record: "Record") -> str:
    extra = record["extra"]
    task = f"task {extra['task']}: " if extra.get("task") is not None else ""
    caught = f": {extra[_EXCEPTION]}" if _EXCEPTION in extra else ""
    return f"{task}{record['message']}{caught}"


def _place(record: "Record") -> str:
    return (record["name"] or "").removeprefix("watcher.")


def _text(record: "Record") -> str:
    return f"{_utc(record)} {record['level'].name:<7} {_place(record)}: {_said(record)}"


def _coloured(record: "Record") -> str:
    level = record["level"].name
    clock = record["time"].strftime("%H:%M:%S")
    return f"\x1b[2m{clock}\x1b[0m \x1b[{_COLOURS.get(level, 0)}m{level:<7}\x1b[0m {_said(record)}"


def _journal(record: "Record") -> str:
    """The journal reads the priority from the prefix and keeps the time itself."""
    return f"<{_PRIORITIES.get(record['level'].name, 6)}>{_place(record)}: {_said(record)}"


def _json(record: "Record") -> str:
    extra = dict(record["extra"])
    caught = extra.pop(_EXCEPTION, None)
    line: dict[str, Any] = {
        "time": _utc(record),
        "level": record["level"].name.lower(),
        "logger": record["name"],
        "message": record["message"],
    }
    line |= {f"extra_{name}" if name in _OWN_FIELDS else name: value for name, value in extra.items()}
    if caught is not None:
        line["exception"] = caught
    return json.dumps(line, ensure_ascii=False, default=str)


def _utc(record: "Record") -> str:
    moment = record["time"].astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


class _Bridge(logging.Handler):
    """Hands the records of the standard library's logging to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = record.levelname if record.levelname in _PRIORITIES else record.levelno
            named = logger.patch(lambda ours: ours.update({"name": record.name}))
            # No arguments follow, so the message is not read as a format.
            named.opt(exception=record.exc_info).log(level, record.getMessage())
        except Exception:  # noqa: BLE001, S110 - a library's bad log call is no reason to stop
            pass


def _bridge() -> None:
    logging.basicConfig(handlers=[_Bridge()], level=logging.WARNING, force=True)
    logging.raiseExceptions = False  # else a failing call prints its arguments to stderr
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
