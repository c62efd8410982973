"""The exclusive lock on a SQLite ledger, and the checks that it still is the ledger that was begun.

Invariant: at most one daemon writes a SQLite ledger, and none starts an empty one in place of a lost one.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sqlalchemy.engine import URL

from watcher.errors import FixConfiguration, TryLater
from watcher.ledger.engine import sqlite_path
from watcher.ledger.high_water import MarkFile, mark_of

# Errors that need a person; any other may pass, so that the service tries again.
_PERMANENT = frozenset(
    {errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
)


def create_file(path: Path) -> None:
    """Create the file of a new ledger, readable by its owner and group alone: it holds business data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o640))


@contextmanager
def sole_writer(url: URL) -> Iterator[None]:
    """Hold the exclusive lock of a ledger: flock(2), which the kernel releases however the process ends.

    Raises:
        FixConfiguration: a ledger that was begun is gone, or the lock's path is not a file this user may write.
        TryLater: another daemon holds the lock, or the disk is full or read-only.
    """
    path = sqlite_path(url)
    if path is None:
        yield
        return
    refuse_missing_ledger(path)
    with _explained(path):
        create_file(path)
        handle = _open_lock(lock_file(path))
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TryLater(
                f"another watcher{_holder(handle)} is running on {path}; stop it first, "
                "or give this one a ledger of its own"
            ) from None
        with _explained(path):
            handle.truncate(0)
            os.pwrite(handle.fileno(), str(os.getpid()).encode(), 0)
        yield


@contextmanager
def open_mark(url: URL) -> Iterator[MarkFile | None]:
    """Open the mark beside a SQLite ledger, None for another database. Raises as `sole_writer` does."""
    path = sqlite_path(url)
    if path is None:
        yield None
        return
    with _explained(mark_of(path)):
        mark = MarkFile(path)
    try:
        yield mark
    finally:
        mark.close()


def _open_lock(path: Path) -> IO[str]:
    """Open the lock file, or create it. Raises FixConfiguration for anything but a regular file.

    A link could lead to other data, which the process id would overwrite.
    """
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise FixConfiguration(f"ledger.url: {path} is not a regular file; remove it") from None
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise FixConfiguration(f"ledger.url: {path} is not a regular file; remove it")
    return os.fdopen(number, "r+")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of the system into FixConfiguration or, for a full or read-only disk, into TryLater."""
    try:
        yield
    except OSError as error:
        reason = f"ledger.url: nothing can be written beside {path} ({error.strerror})"
        if error.errno in _PERMANENT:
            raise FixConfiguration(f"{reason}; give this user the right, or name another place") from None
        raise TryLater(reason) from None


def refuse_missing_ledger(path: Path) -> None:
    """Raise FixConfiguration if a ledger that was begun is gone: a new one could send other answers to its tasks."""
    if mark_of(path).exists() and (not path.exists() or path.stat().st_size == 0):
        raise FixConfiguration(
            f"ledger.url: the ledger that was begun at {path} is gone or empty. Restore a copy; or, if a second answer "
            f"to a task does no harm, remove {mark_of(path)} to begin anew"
        )


def guard_of(url: URL) -> Callable[[], None]:
    """Return a check that raises TryLater once the path of an open SQLite ledger holds another file, or none.

    Writes to such a ledger go into a file that no later start finds.
    """
    path = sqlite_path(url)
    if path is None:
        return lambda: None
    opened = _file_at(path)

    def check() -> None:
        if _file_at(path) != opened:
            raise TryLater(f"the ledger's file {path} was moved, removed or replaced while it was in use")

    return check


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TryLater(f"{path} cannot be read: {error.strerror}") from None
    return status.st_dev, status.st_ino


def lock_file(path: Path) -> Path:
    """Return the path of the lock beside a SQLite ledger."""
    return path.with_name(path.name + ".lock")


def _holder(handle: IO[str]) -> str:
    handle.seek(0)
    pid = handle.read(20).strip()
    return f" (process {pid})" if pid.isdigit() else ""


_LOCKS = Path("/proc/locks")


def is_locked(url: URL, locks: Path = _LOCKS) -> bool | None:
    """Return whether a process holds the lock of a SQLite ledger; None where that cannot be seen.

    Reads the kernel's table (proc_locks(5)) and takes no lock, which could refuse a daemon that starts meanwhile.
    """
    path = sqlite_path(url)
    if path is None:
        return None
    try:
        inode = lock_file(path).stat().st_ino
        lines = locks.read_text(errors="replace").splitlines()
    except FileNotFoundError as error:
        return None if error.filename == str(locks) else False
    except OSError:
        return None
    # "1: FLOCK  ADVISORY  WRITE 708 08:01:13893 0 EOF"
    return any("FLOCK" in line and f":{inode} " in line for line in lines)
