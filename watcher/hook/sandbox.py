"""What a worker can reach: everything but the hidden paths (credentials, configuration, ledger).

Landlock knows allow-lists only. So everything beside the way from / to a hidden path is allowed as a whole, and on
the way itself nothing: a folder that holds a hidden path can be listed, what is in it already stays as it was, and new
files directly in it cannot be opened. Runs in the worker, before the hook is loaded. Standard library only.
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
    """Something that is allowed: a file, a folder with all below it, or only the listing of folders."""

    path: str
    access: int


class Way:
    """The hidden paths, and the folders from / to them. Paths are resolved; those that do not exist count too."""

    def __init__(self, hidden: Iterable[str]) -> None:
        self.hidden = {one for path in hidden for one in _places(path)}
        self.folders = {str(parent) for path in self.hidden for parent in Path(path).parents} - self.hidden
        self._inodes = {_inode(path) for path in self.hidden} - {None}

    def hides(self, path: str) -> bool:
        """Return True for a hidden path, what lies below one, another name of one, and what belongs to one (-wal)."""
        if any(str(one) in self.hidden for one in (Path(path), *Path(path).parents)) or _inode(path) in self._inodes:
            return True
        return any(path.startswith((f"{one}-", f"{one}.")) for one in self.hidden if Path(one).suffix)

    def rules(self, listable: Iterable[str] = ()) -> Iterator[Rule]:
        """Yield what is allowed. `listable` folders can be listed even where a hidden folder lies below them."""
        if not self.folders:
            yield Rule("/", syscalls.ALL_ACCESS)
        closed = {str(parent) for path in self.hidden if Path(path).is_dir() for parent in Path(path).parents}
        needed = {os.path.realpath(path) for path in listable}
        for folder in sorted(self.folders):
            if folder not in closed or folder in needed:
                yield Rule(folder, syscalls.READ_DIR)
            yield from self._beside(folder)

    def _beside(self, folder: str) -> Iterator[Rule]:
        try:
            with os.scandir(folder) as entries:
                for entry in islice(entries, _ENTRIES_LIMIT):
                    if entry.is_symlink() or entry.path in self.folders or self.hides(entry.path):
                        continue
                    is_folder = entry.is_dir(follow_symlinks=False)
                    yield Rule(entry.path, syscalls.ALL_ACCESS if is_folder else syscalls.FILE_ACCESS)
        except OSError:
            return  # what this process cannot list, it cannot open either


def enter(mode: str, hidden: Sequence[str], app_dir: str) -> str:
    """Restrict this process for good. Returns why it is not restricted, or not wholly; empty where all is well.

    Raises FixConfiguration where it is required and cannot be done.
    """
    if mode == OFF:
        return 'hook.landlock = "off"'
    needed = [app_dir, *(path for path in sys.path if path), sys.prefix, sys.base_prefix, str(Path.cwd())]
    around = [path for path in hidden if _holds(path, needed)]
    try:
        reason = _restrict(Way(path for path in hidden if path not in around), needed)
    except OSError as error:
        reason = f"the kernel refused: {error.strerror}"
    if not reason and around:
        reason = f"the hook or the program lies below {around[0]}"
    if reason and mode == REQUIRED:
        raise FixConfiguration(f'hook.landlock = "required": {reason}')
    return reason


def _restrict(way: Way, needed: Iterable[str]) -> str:
    abi = syscalls.landlock_abi()
    if abi < syscalls.LEAST_ABI:
        return "this kernel has no Landlock" if not abi else "this kernel's Landlock is too old (Linux 5.19 or later)"
    ruleset = syscalls.Ruleset(abi)
    try:
        for rule in way.rules(needed):
            try:
                ruleset.allow(rule.path, rule.access)
            except FileNotFoundError:
                continue  # gone since it was listed
        syscalls.drop_looking()
        ruleset.enforce()
    finally:
        ruleset.close()
    return ""


def explain(error: BaseException, hidden: Sequence[str]) -> str:
    """Return what to add to a PermissionError that comes from the restriction, empty for every other error."""
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str) or not hidden:
        return ""
    try:
        way = Way(hidden)
        path = os.path.realpath(error.filename)
        is_kept = way.hides(path) or str(Path(path).parent) in way.folders
    except (OSError, ValueError):
        return ""  # realpath cannot follow every link of /proc
    return "; the hook is kept from this path, see docs/hooks.md, What a hook can reach" if is_kept else ""


def _places(path: str) -> set[str]:
    """Where a path leads, and, if that is a link, where the link itself lies."""
    here = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))  # noqa: PTH100, PTH118, PTH119, PTH120
    return {os.path.realpath(path), here}


def _holds(folder: str, paths: Iterable[str]) -> bool:
    return any(Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)) for path in paths)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        seen = os.lstat(path)
    except (OSError, ValueError):
        return None
    return (seen.st_dev, seen.st_ino)
