"""The accepted code of a hook, and its comparison with the code a worker loaded and with the disk.

Invariant: only a reload replaces the accepted code (`watcher.hook.slots`); a file that changes on the disk does not.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from watcher.errors import TryLater
from watcher.text import shorten_list

FILES_LIMIT = 2_000
_NAMES_SHOWN = 3
_RELOAD = "reload it (SIGHUP, systemctl reload) to use the files on the disk, or put the old files back"

_FileStamp = tuple[int, int, int, int]  # inode, size in bytes, mtime and ctime in ns


class CodeChanged(TryLater):
    """A worker holds other code than the accepted one; its answers are not used."""


class HookCode:
    """The accepted code.

    Attributes:
        version: as the ledger records it.
        loaded: names the source that each worker must load.
        files: the SHA-256 (hex) of each file by path, at most FILES_LIMIT of them.
    """

    def __init__(self, version: str, loaded: str, files: Mapping[str, str]) -> None:
        self.version = version
        self.loaded = loaded
        self.files = dict(list(files.items())[:FILES_LIMIT])
        self._unchanged: dict[str, _FileStamp] = {}

    def check_start(self, loaded: str, files: Mapping[str, str]) -> None:
        """Compare with the code that a new worker loaded.

        Raises:
            CodeChanged: it differs; names the files.
        """
        if loaded != self.loaded:
            changed = [path for path, digest in files.items() if self.files.get(path) != digest]
            detail = names(changed) if changed else "the set of its modules"
            raise CodeChanged(f"the hook's code has changed since it was loaded ({detail}; {self.version}); {_RELOAD}")

    def add(self, files: Mapping[str, str]) -> None:
        """Accept the modules that a worker loaded during a run.

        Raises:
            CodeChanged: a known module differs.
        """
        changed = [path for path, digest in files.items() if self.files.get(path, digest) != digest]
        if changed:
            raise CodeChanged(
                f"a worker loaded changed code during a run, and its answer is not used ({names(changed)}); {_RELOAD}"
            )
        room = FILES_LIMIT - len(self.files)
        self.files |= dict([(path, digest) for path, digest in files.items() if path not in self.files][:room])

    def changed_on_disk(self) -> list[str]:
        """Return the paths whose file on the disk has other content, or is gone. Blocks: reads files touched since."""
        return [path for path, digest in list(self.files.items()) if self._differs(path, digest)]

    def _differs(self, path: str, digest: str) -> bool:
        try:
            status = Path(path).stat()
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if self._unchanged.get(path) == stamp:
                return False
            with Path(path).open("rb") as source:
                differs = hashlib.file_digest(source, "sha256").hexdigest() != digest
        except (OSError, ValueError):
            return True
        if not differs:
            self._unchanged[path] = stamp
        return differs


def names(paths: list[str]) -> str:
    """Return the names of a few files, and the number of the others."""
    return shorten_list([Path(path).name for path in sorted(paths)], _NAMES_SHOWN)
