"""The sandbox of a worker: it can reach all files but the hidden paths (credentials, configuration, ledger).

Landlock (landlock(7)) has allow-lists only. So each folder between / and a hidden path gets no access of its own, and
every other entry of it is allowed as a whole. A folder that contains a hidden path can be listed, its present entries
can be used, and new files directly in it cannot be opened. Runs in the worker, before the hook is loaded. Standard
library only.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from watcher.errors import FixConfiguration
from watcher.hook import syscalls

AUTO, OFF, REQUIRED = "auto", "off", "required"
_ENTRIES_LIMIT = 50_000  # of one folder; those beyond are not allowed


@dataclass(frozen=True, slots=True)
class Rule:
    """An allowed access: to a file, to a folder with all below it, or only to the listing of folders."""

    path: str
    access: int


class HiddenPaths:
    """The hidden paths and the `folders` between / and them. Paths are resolved, and need not exist."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = {location for path in paths for location in _locations(path)}
        self.folders = {str(parent) for path in self.paths for parent in Path(path).parents} - self.paths
        self._inodes = {_inode(path) for path in self.paths} - {None}

    def hides(self, path: str) -> bool:
        """Return True for a hidden path, a path below one, a hard link to one, and a file beside one (`-wal`)."""
        chain = (Path(path), *Path(path).parents)
        if any(str(part) in self.paths for part in chain) or _inode(path) in self._inodes:
            return True
        return any(path.startswith((f"{hidden}-", f"{hidden}.")) for hidden in self.paths if Path(hidden).suffix)

    def rules(self, listable: Iterable[str] = ()) -> Iterator[Rule]:
        """Yield the allowed accesses. `listable` folders can be listed even if a hidden folder lies below them."""
        if not self.folders:
            yield Rule("/", syscalls.ALL_ACCESS)
        above_hidden = {str(parent) for path in self.paths if Path(path).is_dir() for parent in Path(path).parents}
        needed = {os.path.realpath(path) for path in listable}
        for folder in sorted(self.folders):
            if folder not in above_hidden or folder in needed:
                yield Rule(folder, syscalls.READ_DIR)
            yield from self._entries(folder)

    def _entries(self, folder: str) -> Iterator[Rule]:
        """Yield a rule for each entry of a folder that neither is hidden nor contains a hidden path."""
        try:
            with os.scandir(folder) as entries:
                for entry in islice(entries, _ENTRIES_LIMIT):
                    if entry.is_symlink() or entry.path in self.folders or self.hides(entry.path):
                        continue
                    is_folder = entry.is_dir(follow_symlinks=False)
                    yield Rule(entry.path, syscalls.ALL_ACCESS if is_folder else syscalls.FILE_ACCESS)
        except OSError:
            return  # A folder that this process cannot list, it cannot open either.


def enter(mode: str, hidden: Sequence[str], app_dir: str) -> str:
    """Restrict this process, for good.

    Args:
        mode: "auto", "off" or "required".
        hidden: the paths to hide.
        app_dir: the folder of the hook, which must stay readable.

    Returns:
        Why the process is not restricted, or not fully; "" if it is.

    Raises:
        FixConfiguration: the mode is "required" and the process cannot be restricted fully.
    """
    if mode == OFF:
        return 'hook.landlock = "off"'
    needed = [app_dir, *(path for path in sys.path if path), sys.prefix, sys.base_prefix, str(Path.cwd())]
    unhideable = [path for path in hidden if _contains(path, needed)]
    try:
        reason = _restrict(HiddenPaths(path for path in hidden if path not in unhideable), needed)
    except OSError as error:
        reason = f"the kernel refused: {error.strerror}"
    if not reason and unhideable:
        reason = f"the hook or the program lies below {unhideable[0]}"
    if reason and mode == REQUIRED:
        raise FixConfiguration(f'hook.landlock = "required": {reason}')
    return reason


def _restrict(hidden: HiddenPaths, needed: Iterable[str]) -> str:
    abi = syscalls.landlock_abi()
    if abi < syscalls.LEAST_ABI:
        return "this kernel has no Landlock" if not abi else "this kernel's Landlock is too old (Linux 5.19 or later)"
    ruleset = syscalls.Ruleset(abi)
    try:
        for rule in hidden.rules(needed):
            try:
                ruleset.allow(rule.path, rule.access)
            except FileNotFoundError:
                continue  # It is gone since it was listed.
        syscalls.drop_bypass_capabilities()
        ruleset.enforce()
    finally:
        ruleset.close()
    return ""


def explain(error: BaseException, hidden: Sequence[str]) -> str:
    """Return the addition to the message of a PermissionError that the sandbox caused; "" for every other error."""
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str) or not hidden:
        return ""
    try:
        closed = HiddenPaths(hidden)
        path = os.path.realpath(error.filename)
        is_closed = closed.hides(path) or str(Path(path).parent) in closed.folders
    except (OSError, ValueError):
        return ""  # realpath cannot follow every link of /proc.
    return "; the sandbox closes this path to the hook, see docs/hooks.md, What a hook can reach" if is_closed else ""


def _locations(path: str) -> set[str]:
    """Return the target of a path and, if it is a link, the place of the link itself."""
    here = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))  # noqa: PTH100, PTH118, PTH119, PTH120
    return {os.path.realpath(path), here}


def _contains(folder: str, paths: Iterable[str]) -> bool:
    return any(Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)) for path in paths)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino)
