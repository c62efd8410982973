"""The file that gets each root as a line of JSON: only ever added to, readable by everybody, without doubles."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from watcher.errors import FixUsage, TryLater
from watcher.files import parse
from watcher.ledger.audit.roots import Root
from watcher.report.audit_roots import read_root_lines, root_fields
from watcher.text import escape

# Published roots are for everybody to read, whatever the umask of the service.
_MODE = 0o644


def append_roots(path: Path, roots: Sequence[Root], chain_id: int, task_manager: bytes) -> None:
    """Add the roots that the file lacks, and write them through to the disk. The file is made if it is not there.

    Args:
        path: the file; its folder must be there.
        roots: the roots, the oldest first.
        chain_id: the chain that they are of.
        task_manager: its contract, 20 bytes.

    Raises:
        TryLater: the file cannot be read or written, or holds anything but roots of this contract.
    """
    try:
        handle, is_new = _open(path)
        try:
            known = [] if is_new else _known(path, handle, chain_id, task_manager)
            lines = [root_fields(root, chain_id, task_manager) for root in roots if root not in known]
            _append(handle, "".join(json.dumps(line) + "\n" for line in lines).encode())
        finally:
            os.close(handle)
        if is_new:
            _sync_folder(path)
    except FixUsage as error:
        raise TryLater(str(error)) from None
    except OSError as error:
        raise TryLater(f"{escape(str(path))}: {error.strerror or 'the system gave no reason'}") from None


def _open(path: Path) -> tuple[int, bool]:
    """Return the open file, and whether it was made. O_NONBLOCK: opening a pipe without a reader would block."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags), False
    except FileNotFoundError:
        handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, _MODE)
        os.fchmod(handle, _MODE)
        return handle, True


def _known(path: Path, handle: int, chain_id: int, task_manager: bytes) -> list[Root]:
    """Return the roots in the file, after the end of it is whole. Raises FixUsage and OSError."""
    try:
        return _whole(read_root_lines(path, chain_id, task_manager), handle)
    except FixUsage:
        if not _cut_end(handle):
            raise
    return read_root_lines(path, chain_id, task_manager)


def _whole(roots: list[Root], handle: int) -> list[Root]:
    """Return `roots`, after the last line of the file has its end, which an editor may have left out."""
    size = os.fstat(handle).st_size
    if size and os.pread(handle, 1, size - 1) != b"\n":
        _append(handle, b"\n")
    return roots


_TAIL_BYTES = 4096
_BEGINNING = b'{"chain_id": '


def _cut_end(handle: int) -> bool:
    """Remove the part of a line that a crash or a full disk has left at the end. Return True if there was one."""
    size = os.fstat(handle).st_size
    if not size:
        return False  # also what is no regular file
    begin = max(0, size - _TAIL_BYTES)
    tail = os.pread(handle, _TAIL_BYTES, begin)
    end = tail.rfind(b"\n") + 1
    part = tail[end:]
    # Nothing but the beginning of a line of ours: all else was written by somebody, and is not ours to remove.
    if not part or not part.startswith(_BEGINNING[: len(part)]) or (begin and not end):
        return False
    with suppress(ValueError):
        parse(part)
        return False  # a whole object that is no root
    os.ftruncate(handle, begin + end)
    return True


def _append(handle: int, data: bytes) -> None:
    """Write all of `data` or nothing of it. Raises OSError."""
    if not data:
        return
    size = os.fstat(handle).st_size
    try:
        written = 0
        while written < len(data):
            written += os.write(handle, data[written:])
        os.fsync(handle)
    except OSError:
        with suppress(OSError):
            os.ftruncate(handle, size)
        raise


def _sync_folder(path: Path) -> None:
    """Write the name of a new file through to the disk."""
    folder = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
