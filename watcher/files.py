"""Files: those installed with the program, and text that a person names (settings, a convention, an ABI).

Invariant: reading raises no error but `FixConfiguration`, and the message holds nothing of the file's content.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from watcher.errors import FixConfiguration

_PACKAGE = Path(__file__).parent
_DEPTH_MAX = 64
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NOT_BEFORE_VALUES = bytes(set(range(256)) - set(b",[{"))


def program_version() -> str:
    """Return the installed version, "0" in a bare checkout."""
    from importlib.metadata import PackageNotFoundError, version  # late: it loads 20 ms of modules

    try:
        return version("avs-task-watcher")
    except PackageNotFoundError:
        return "0"


def shipped(name: str) -> Path:
    """Return the folder `migrations`, `systemd` or `examples`: in the wheel, else in the checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def preset_names() -> tuple[str, ...]:
    """Return the names of the shipped conventions, each a TOML file of that name, in alphabetical order."""
    folder = _PACKAGE / "chain" / "convention" / "presets"
    return tuple(sorted(file.stem for file in folder.glob("*.toml")))


def parse(body: bytes, *, unique_names: bool = False) -> Any:
    """Return the JSON value in `body`, UTF-8 without a byte order mark.

    Args:
        body: the document.
        unique_names: refuse an object with two members of one name, at the cost of a call per object.

    Raises:
        ValueError: the document is not JSON (RFC 8259), is nested more than 64 deep, or contains NaN or Infinity.
    """
    if is_too_deep(body):
        raise ValueError("nested too deep")
    text = body.decode()
    if text.startswith("\ufeff"):
        raise ValueError("Unexpected UTF-8 BOM")
    try:
        return (_UNIQUE_NAMES if unique_names else _ANY_NAMES).decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def is_too_deep(body: bytes) -> bool:
    """Return True if the brackets of a JSON or TOML document nest more than 64 deep.

    Removes the innermost pairs, one level at a time. Brackets inside strings count too; up to 64 unpaired ones are
    forgiven.
    """
    brackets = body.translate(None, _NOT_BRACKETS)
    for _ in range(_DEPTH_MAX):
        if len(brackets) <= _DEPTH_MAX:
            return False
        peeled = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(peeled) == len(brackets):
            break
        brackets = peeled
    return len(brackets) > _DEPTH_MAX


def values_at_most(body: bytes) -> int:
    """Return an upper bound of the values in a document: each but the first follows a comma or an opening bracket."""
    return 1 + len(body.translate(None, _NOT_BEFORE_VALUES))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name is there twice")
    return members


# Made once: `json.loads` makes a decoder for each document that has options.
_ANY_NAMES = json.JSONDecoder(parse_constant=_no_constant)
_UNIQUE_NAMES = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique)


def read_text(path: Path, limit_bytes: int) -> str:
    """Return a file's text without its byte-order mark.

    Raises:
        FixConfiguration: the path leads to no regular, readable file of UTF-8 text within `limit_bytes`.
    """
    try:
        # O_NONBLOCK: opening a pipe without a writer would block.
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
