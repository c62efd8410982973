"""Copies of the ledger that can be trusted: whole, read through, on the disk, and no more of them than wanted."""

import os
import time
from pathlib import Path

from sqlalchemy.engine import URL

from watcher.errors import FixUsage, TryLater
from watcher.ledger.engine import backup_sqlite, integrity

_PATTERN = "watcher-????????T??????Z.db"


def copy_to(source: Path, target: Path) -> None:
    """Copy the ledger and read the copy through. Raises TryLater or FixUsage, and then leaves nothing behind."""
    if not target.parent.is_dir():
        raise FixUsage(f"there is no folder {target.parent}; make it, or name another one")
    try:
        backup_sqlite(source, target)
        damage = integrity(URL.create("sqlite", database=str(target)))
        if damage is not None:
            target.unlink()
            raise TryLater(f"the copy was not in order and is gone again ({damage}); check the ledger and the disk")
        _to_disk(target)
        _to_disk(target.parent)
    except OSError as trouble:
        target.unlink(missing_ok=True)
        raise TryLater(f"{source} was not copied to {target}: {trouble.strerror}") from None


def copy_named(source: Path, folder: Path, keep: int) -> tuple[Path, list[Path]]:
    """Copy into a folder, under a name with the time; of such copies the newest `keep` stay.

    Returns the copy and what was removed. Older copies go only after the new one is safe.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as trouble:
        raise FixUsage(f"{folder} cannot be made: {trouble.strerror}") from None
    target = folder / f"watcher-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.db"
    part = folder / f".{target.name}.part"
    part.unlink(missing_ok=True)
    copy_to(source, part)
    part.replace(target)
    _to_disk(folder)
    old = sorted(folder.glob(_PATTERN))[:-keep]
    for one in old:
        one.unlink(missing_ok=True)
    return target, old


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
