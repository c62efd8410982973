"""A file of settings or of one secret, read and parsed.

Invariant: whatever the path leads to, and whatever the file holds, the only error is `FixConfiguration`, its words
are free of the file's values, and no more than a limit is read.
"""

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from watcher.errors import FixConfiguration
from watcher.redact import escape

FILE_LIMIT_BYTES = 1 << 20
_PLACE = re.compile(r" \((at [^()]*)\)$")
# The parser quotes the source in some messages; only these quote nothing but a single character, or nothing.
_QUOTED = re.compile(r"(['\"]).*\1")


def read_text(path: Path, limit_bytes: int) -> str:
    """The file as text, without a byte-order mark.

    Raises:
        FixConfiguration: it is no readable file of UTF-8 text within the limit.
    """
    try:
        # O_NONBLOCK: to open a pipe that nobody writes to would wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                raise FixConfiguration("is a folder, not a file" if stat.S_ISDIR(mode) else "is not a regular file")
            with open(handle, "rb", closefd=False) as file:
                data = file.read(limit_bytes + 1)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise FixConfiguration("does not exist") from None
    except PermissionError:
        raise FixConfiguration("may not be read by this user; check owner and mode") from None
    except OSError as error:
        raise FixConfiguration(f"cannot be read: {error.strerror or 'the system gave no reason'}") from None
    except ValueError:  # a path with a NUL in it
        raise FixConfiguration("is not a path") from None
    if len(data) > limit_bytes:
        raise FixConfiguration(f"is longer than {limit_bytes} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FixConfiguration(f"is not UTF-8 text (line {line}); save it as UTF-8") from None


def parse(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        FixConfiguration: as `read_text`, or it is not TOML; the line and column are told.
    """
    shown = escape(str(path))
    try:
        text = read_text(path, FILE_LIMIT_BYTES)
    except FixConfiguration as error:
        hint = '; write one with "watcher init", or name it with --config' if "does not exist" in str(error) else ""
        raise FixConfiguration(f"{shown}: {error}{hint}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FixConfiguration(f"{shown}: {_where_and_what(str(error))}") from None
    except RecursionError:
        raise FixConfiguration(f"{shown}: is nested too deeply") from None
    except ValueError:  # a number of more digits than Python converts
        raise FixConfiguration(f"{shown}: holds a number that is far too long") from None


def _where_and_what(message: str) -> str:
    what = _PLACE.sub("", message)
    where = _PLACE.search(message)
    place = where.group(1).removeprefix("at ") if where else "somewhere"
    quoted = _QUOTED.search(what)
    if quoted and len(quoted.group()) > 6:
        what = _QUOTED.sub("...", what)
    return escape(f"{place}: not valid TOML: {what[:200]}")
