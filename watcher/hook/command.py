"""The command of a program target, `exec:PROGRAM ARGS`: its parts, its files, its version. Standard library only."""

import hashlib
import os
import shlex
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from watcher.errors import FixConfiguration
from watcher.hook.protocol import PROGRAM_PREFIX
from watcher.hook.target import setting
from watcher.text import clean

# Device, inode, size in bytes, mtime and ctime in ns.
Stamp = tuple[int, int, int, int, int]

_VERSION_CHARS = 12
_NAMES_LIMIT_CHARS = 120


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run: the target, the absolute path, and the arguments with the program's name as the first."""

    target: str
    path: str
    args: tuple[str, ...]

    def files(self) -> dict[str, Stamp]:
        """Return size and times of the program and of each argument that is a regular file, by absolute path."""
        paths = [self.path, *(str(Path(arg).absolute()) for arg in self.args[1:])]
        stamps = {path: _stamp(path) for path in paths}
        return {path: stamp for path, stamp in stamps.items() if stamp is not None}

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 (hex) of the program and of each argument that is a regular file, by absolute path.

        Raises:
            FixConfiguration: a file cannot be read.
        """
        try:
            return {path: _digest(path) for path in self.files()}
        except OSError as error:
            reason = error.strerror or "the system gave no reason"
            raise _problem(self.target, f"{clean(str(error.filename))} cannot be read: {reason}") from None

    def version(self, hashes: Mapping[str, str]) -> str:
        """Return the names of the hashed files, and a short hash of the arguments and of the contents."""
        content = "\0".join([*self.args, *hashes.values()]).encode("utf-8", "surrogateescape")
        names = clean(" ".join(Path(path).name for path in hashes), _NAMES_LIMIT_CHARS)
        return f"{PROGRAM_PREFIX}{names}@{hashlib.sha256(content).hexdigest()[:_VERSION_CHARS]}"


def read_command(target: str) -> Command:
    """Return the command of a target. A relative path counts from the current folder; a bare name is found by PATH.

    Raises:
        FixConfiguration: there is no such program, or this user cannot execute it.
    """
    try:
        args = shlex.split(target.removeprefix(PROGRAM_PREFIX))
    except ValueError:
        raise _problem(target, "a quotation mark is not closed") from None
    if not args:
        raise _problem(target, "names no program")
    name = clean(args[0], 200)
    path = args[0] if "/" in args[0] else shutil.which(args[0])
    if path is None:
        hint = f"; for the file in hook.app_dir write ./{name}" if _stamp(args[0]) else ""
        raise _problem(target, f"there is no program {name} on the PATH{hint}")
    if not _stamp(path):
        raise _problem(target, f"there is no program {name} (looked in {clean(str(Path.cwd()))})")
    if not os.access(path, os.X_OK):
        raise _problem(target, f"this user cannot execute {name}; correct it with chmod +x")
    return Command(target, str(Path(path).absolute()), tuple(args))


def _stamp(path: str) -> Stamp | None:
    """Return the stamp of a regular file, None for anything else."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _digest(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(target: str, reason: str) -> FixConfiguration:
    return FixConfiguration(f"{setting(target)}: {reason}")
