"""The log: one record, one line, on stderr, without secrets.

Every module says `from loguru import logger`; this one decides how that looks. Rule for callers: the first argument is
one constant string, the event and a sentence for people (`rpc.node_down: the node is out of use`), and every value is
a keyword argument, a field (`node=name, reason=str(error)`); a test reads the sources for it. Invariant: no record of
any content makes a logging call raise, wait, or print more than one line.
"""

import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from loguru import logger

from watcher.daemon.log_format import EXCEPTION, LIBRARY, PRIORITIES, LineFormat, choose_format
from watcher.daemon.stderr import Stderr, Stream
from watcher.errors import FixConfiguration
from watcher.redact import Redactor

if TYPE_CHECKING:
    from loguru import Message, Record

# Libraries whose records below a warning are too many, or show whole URLs.
_QUIET = (
    *("aiohttp", "alembic", "apscheduler", "asyncio", "httpcore", "httpx", "pydantic_settings", "sqlalchemy"),
    *("urllib3", "web3", "websockets"),
)
_FRAMES = 40
_EXTRA_LIMIT_CHARS = 1024


def set_up(
    level: str = "info",
    format: str = "auto",  # noqa: A002 - the name of the setting
    redactor: Redactor | None = None,
    environ: Mapping[str, str] = os.environ,
    stream: Stream | None = None,
) -> None:
    """Send everything that is logged, by us or by a library, to stderr. May be called again.

    Args:
        level: the least important records shown: trace, debug, info, warning, error.
        format: "text", "json", or "auto" for text that is coloured on a terminal.
        redactor: hides the secrets; None hides only what looks like one.
        environ: `JOURNAL_STREAM` (if it names the stream: priority prefix, no time) and `NO_COLOR` are read from it.
        stream: the stream to write to; None: stderr.

    Raises:
        FixConfiguration: there is no such level.
    """
    if level.upper() not in PRIORITIES:
        raise FixConfiguration('log level: must be "trace", "debug", "info", "warning" or "error"')
    out = Stderr(stream)
    line_format = choose_format(format, out, environ)
    hide = redactor or Redactor()
    logger.remove()
    logger.configure(patcher=lambda record: _clean(record, hide))
    # catch=False: loguru's own report of a failing sink would print the record; `_write` lets nothing out.
    logger.add(
        lambda message: _write(message, line_format, out),
        level=level.upper(),
        format="{message}",
        colorize=False,
        backtrace=False,
        diagnose=False,
        catch=False,
    )
    _bridge()


def report_crashes() -> None:
    """Log uncaught exceptions, in threads and finalizers too, in place of Python's raw traceback on stderr."""

    def unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            logger.opt(exception=(kind, error, trace)).critical(
                "daemon.bug: an unexpected error; please report it with this line"
            )

    sys.excepthook = unhandled
    threading.excepthook = lambda args: unhandled(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    sys.unraisablehook = lambda args: unhandled(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


def _clean(record: "Record", redactor: Redactor) -> None:
    """Make the record safe before any sink sees it: redact all text, on one line; turn the exception into text."""
    try:
        caught = record["exception"]
        record["exception"] = None
        record["message"] = redactor(record["message"])
        record["extra"] = {redactor(str(name)): _plain(value, redactor) for name, value in record["extra"].items()}
        if caught is not None and caught.value is not None:
            record["extra"][EXCEPTION] = redactor(_exception_text(caught.value))
    except Exception as error:  # noqa: BLE001 - a value whose __str__ fails, say: the daemon goes on
        record["message"] = f"(a log record that could not be shown: {type(error).__name__})"
        record["exception"] = None
        record["extra"] = {}


def _plain(value: object, redactor: Redactor) -> object:
    if value is None or isinstance(value, bool):
        return value
    text = "0x" + value.hex() if isinstance(value, bytes) else str(value)
    redacted = redactor(text)[:_EXTRA_LIMIT_CHARS]
    return value if isinstance(value, (int, float)) and redacted == text else redacted


def _exception_text(error: BaseException) -> str:
    """Return the traceback on one line, its last line first, as a long text is cut at the end."""
    summary = traceback.format_exception_only(error)[-1].strip()
    frames = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-_FRAMES))
    return " | ".join([summary, *(line.strip() for line in frames.splitlines() if line.strip(" ^~|+-"))])


def _write(message: "Message", line_format: LineFormat, out: Stderr) -> None:
    try:
        out.write(line_format(message.record))
    except Exception:  # noqa: BLE001, S110 - there is no other place to report it
        pass


class _Bridge(logging.Handler):
    """Hands the records of the standard library's logging to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = record.levelname if record.levelname in PRIORITIES else record.levelno
            named = logger.patch(lambda ours: ours.update({"name": record.name, "function": LIBRARY}))
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
