"""The sync of SQLite's write-ahead log, for the commits that did not wait for one."""

import os
from pathlib import Path


def sync_log(ledger: Path) -> None:
    """Bring the log of a ledger to the disk, without SQLite. Raises OSError.

    SQLite takes no locks on its log, so that closing it here releases none.
    """
    handle = os.open(ledger.with_name(ledger.name + "-wal"), os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)
