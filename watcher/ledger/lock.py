"""Who holds the ledger, and whether it still is the one that was begun.

Invariant: at most one daemon writes a SQLite ledger, and none begins anew where one was lost.
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

# No restart mends these.
_MISTAKES = frozenset(
    {errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
)


def create_file(path: Path) -> None:
    """Make the file of a new ledger readable by its owner and group alone: it holds business data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o640))


@contextmanager
def sole_writer(url: URL) -> Iterator[None]:
    """Hold the ledger for this process. Raises TryLater when another daemon has it.

    A lock of the kernel, not a pid file: it vanishes with the process however that ends.
    """
    path = sqlite_path(url)
    if path is None:
        yield
        return
    refuse_missing_ledger(path)
    with _told(path):
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
        with _told(path):
            handle.truncate(0)
            os.pwrite(handle.fileno(), str(os.getpid()).encode(), 0)
        yield


@contextmanager
def open_mark(url: URL) -> Iterator[MarkFile | None]:
    """The mark beside a SQLite ledger, None for another database. Raises FixConfiguration, TryLater."""
    path = sqlite_path(url)
    if path is None:
        yield None
        return
    with _told(mark_of(path)):
        mark = MarkFile(path)
    try:
        yield mark
    finally:
        mark.close()


def _open_lock(path: Path) -> IO[str]:
    """The lock file, made where there is none. Raises FixConfiguration for anything but a file: a link could lead to
    somebody's data, which the process id is then written over.
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
def _told(path: Path) -> Iterator[None]:
    """Errors of the system in words: a disk that is full or read-only may be mended while the service tries again."""
    try:
        yield
    except OSError as error:
        words = f"ledger.url: nothing can be written beside {path} ({error.strerror})"
        if error.errno in _MISTAKES:
            raise FixConfiguration(f"{words}; give this user the right, or name another place") from None
        raise TryLater(words) from None


def refuse_missing_ledger(path: Path) -> None:
    """Raise FixConfiguration where a ledger that was begun is gone: beginning anew could send other answers."""
    if mark_of(path).exists() and (not path.exists() or path.stat().st_size == 0):
        raise FixConfiguration(
            f"ledger.url: the ledger that was begun at {path} is gone or empty. Restore a copy; or, if a second answer "
            f"to a task does no harm, remove {mark_of(path)} to begin anew"
        )


def guard_of(url: URL) -> Callable[[], None]:
    """Return what raises TryLater once another file, or none, is at the path of a SQLite ledger that is open.

    Writes to such a ledger go into a file that no later start will find.
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
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TryLater(f"{path} cannot be looked at: {error.strerror}") from None
    return found.st_dev, found.st_ino


def lock_file(path: Path) -> Path:
    """The lock beside a SQLite ledger."""
    return path.with_name(path.name + ".lock")


def _holder(handle: IO[str]) -> str:
    handle.seek(0)
    pid = handle.read(20).strip()
    return f" (process {pid})" if pid.isdigit() else ""
