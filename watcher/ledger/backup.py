"""Backup copies of a SQLite ledger: complete, verified, on the disk, and only the newest kept."""

import os
import time
from pathlib import Path

from sqlalchemy.engine import URL

from watcher.errors import FixUsage, TryLater
from watcher.ledger.engine import backup_sqlite, integrity

_PATTERN = "watcher-????????T??????Z.db"


def copy_to(source: Path, target: Path) -> None:
    """Copy a ledger and verify the copy. A failure leaves no file behind.

    Raises:
        FixConfiguration: `target` exists.
        FixUsage: the folder of `target` does not exist.
        TryLater: the copy could not be made, or is damaged.
    """
    if not target.parent.is_dir():
        raise FixUsage(f"there is no folder {target.parent}; create it, or name another one")
    try:
        backup_sqlite(source, target)
        damage = integrity(URL.create("sqlite", database=str(target)))
        if damage is not None:
            target.unlink()
            raise TryLater(f"the copy was damaged and is removed ({damage}); check the ledger and the disk")
        _to_disk(target)
        _to_disk(target.parent)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise TryLater(f"{source} was not copied to {target}: {error.strerror}") from None


def copy_named(source: Path, folder: Path, keep: int) -> tuple[Path, list[Path]]:
    """Copy a ledger into a folder under a name with the time, then remove all but the newest `keep` such copies.

    Args:
        source: the ledger.
        folder: created if it does not exist.
        keep: the number of copies that stay, at least 1.

    Returns:
        The new copy, and the removed ones.

    Raises:
        FixUsage: the folder cannot be created.
        TryLater: as `copy_to`; nothing is removed then.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise FixUsage(f"{folder} cannot be created: {error.strerror}") from None
    target = folder / f"watcher-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.db"
    part = folder / f".{target.name}.part"
    part.unlink(missing_ok=True)
    copy_to(source, part)
    part.replace(target)
    _to_disk(folder)
    old = sorted(folder.glob(_PATTERN))[:-keep]
    for copy in old:
        copy.unlink(missing_ok=True)
    return target, old


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
