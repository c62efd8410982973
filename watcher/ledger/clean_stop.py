"""The mark of a clean stop beside a SQLite ledger, so that the next start need not read the whole file.

Invariants: the mark is off the disk before the first write of a run; it is written after the last connection has closed
the file, and it describes the file as that left it. Any other change of the file makes the mark void.
"""

import os
from pathlib import Path

_LIMIT_BYTES = 256


def mark_of(path: Path) -> Path:
    """Return the path of the mark beside a SQLite ledger."""
    return path.with_name(path.name + ".clean")


def take(path: Path) -> bool:
    """Remove the mark, on the disk. Return True if it describes the file: nothing has changed since a clean stop.

    Raises OSError if the mark is there and cannot be removed.
    """
    mark = mark_of(path)
    try:
        number = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            text = os.read(number, _LIMIT_BYTES).decode("ascii", "replace")
        finally:
            os.close(number)
    except FileNotFoundError:
        return False
    except OSError:  # a link, or a folder
        text = ""
    mark.unlink()
    _to_disk(path.parent)
    return text == _description(path)


def leave(path: Path) -> None:
    """Write the mark, unless another process still has the ledger open. Without it the next start reads the whole file.

    Raises OSError.
    """
    text = _description(path)
    if text is None:
        return
    part = mark_of(path).with_name(mark_of(path).name + ".part")
    part.unlink(missing_ok=True)  # of a stop that was cut short; it could be a link
    with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC, 0o640), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(mark_of(path))
    _to_disk(path.parent)


def _description(path: Path) -> str | None:
    """Return the identity, size and times of the file; None without a file, or while its write-ahead log is in use."""
    try:
        if path.with_name(path.name + "-wal").stat().st_size:
            return None
    except FileNotFoundError:
        pass
    try:
        now = path.stat()
    except FileNotFoundError:
        return None
    return f"inode={now.st_ino} size={now.st_size} modified_ns={now.st_mtime_ns} changed_ns={now.st_ctime_ns}\n"


def _to_disk(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
