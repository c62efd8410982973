"""The TOML file of the settings, read and parsed within a limit.

Invariant: for any path and any content the only error is `FixConfiguration`, and its message holds no value of the
file.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from watcher.errors import FixConfiguration
from watcher.files import read_text
from watcher.text import escape

FILE_LIMIT_BYTES = 1 << 20
_PLACE = re.compile(r" \((at [^()]*)\)$")
# The parser quotes the source in some messages; only these quote nothing but a single character, or nothing.
_QUOTED = re.compile(r"(['\"]).*\1")


def parse(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        FixConfiguration: `read_text` refuses the file, or it is not TOML; the message has line and column.
    """
    escaped = escape(str(path))
    try:
        text = read_text(path, FILE_LIMIT_BYTES)
    except FixConfiguration as error:
        hint = '; write one with "watcher init", or name it with --config' if "does not exist" in str(error) else ""
        raise FixConfiguration(f"{escaped}: {error}{hint}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FixConfiguration(f"{escaped}: {_where_and_what(str(error))}") from None
    except RecursionError:
        raise FixConfiguration(f"{escaped}: is nested too deeply") from None
    except ValueError:  # a number of more digits than Python converts
        raise FixConfiguration(f"{escaped}: holds a number that is far too long") from None


def _where_and_what(message: str) -> str:
    what = _PLACE.sub("", message)
    where = _PLACE.search(message)
    place = where.group(1).removeprefix("at ") if where else "somewhere"
    quoted = _QUOTED.search(what)
    if quoted and len(quoted.group()) > 6:
        what = _QUOTED.sub("...", what)
    return escape(f"{place}: not valid TOML: {what[:200]}")
