"""The code of a hook as the daemon accepted it, and how it compares with what a worker loaded or the disk holds.

Invariant: only `watcher.hook.pool` replaces it, on request; a file that changes on the disk changes nothing here.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from watcher.errors import TryLater
from watcher.text import shorten_list

FILES_LIMIT = 2_000
_NAMES_SHOWN = 3
_RELOAD = "reload it (SIGHUP, systemctl reload) to use what is on the disk, or put the old files back"

_Mark = tuple[int, int, int, int]


class CodeChanged(TryLater):
    """A worker holds other code than the daemon accepted. Its answers are not used."""


class HookCode:
    """`version` names the code; `files` maps paths to their SHA-256 in hex. At most FILES_LIMIT are compared."""

    def __init__(self, version: str, files: Mapping[str, str]) -> None:
        self.version = version
        self.files = dict(list(files.items())[:FILES_LIMIT])
        self._unchanged: dict[str, _Mark] = {}

    def check_start(self, version: str, files: Mapping[str, str]) -> None:
        """Compare with what a new worker loaded. Raises CodeChanged, naming the files."""
        if version != self.version:
            differ = [path for path, digest in files.items() if self.files.get(path) != digest]
            what = names(differ) if differ else "the set of its modules"
            raise CodeChanged(f"the hook's code has changed since it was loaded ({what}; {self.version}); {_RELOAD}")

    def add(self, files: Mapping[str, str]) -> None:
        """Take over modules that a worker loaded during a run. Raises CodeChanged where a known one is different."""
        differ = [path for path, digest in files.items() if self.files.get(path, digest) != digest]
        if differ:
            raise CodeChanged(
                f"a worker loaded changed code during a run, and its answer is not used ({names(differ)}); {_RELOAD}"
            )
        room = FILES_LIMIT - len(self.files)
        self.files |= dict([one for one in files.items() if one[0] not in self.files][:room])

    def changed_on_disk(self) -> list[str]:
        """Return the paths whose content on the disk is another, or gone. Blocks: reads what was touched."""
        return [path for path, digest in list(self.files.items()) if self._differs(path, digest)]

    def _differs(self, path: str, digest: str) -> bool:
        try:
            seen = Path(path).stat()
            mark = (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
            if self._unchanged.get(path) == mark:
                return False
            with Path(path).open("rb") as source:
                differs = hashlib.file_digest(source, "sha256").hexdigest() != digest
        except (OSError, ValueError):
            return True
        if not differs:
            self._unchanged[path] = mark
        return differs


def names(paths: list[str]) -> str:
    """Name a few files, and how many there are."""
    return shorten_list([Path(path).name for path in sorted(paths)], _NAMES_SHOWN)
