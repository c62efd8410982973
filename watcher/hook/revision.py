"""The git revision of files, and whether they differ from it. Standard library only, because a worker imports it.

The revision is read from the repository's files (gitrepository-layout(5)); whether the files differ is asked of git, if
it is installed. Invariant: returns a text for any files, repository and git, within a few seconds.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_REVISION = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REFERENCE = re.compile(r"ref: (refs/[!-~]{1,300})")
_SHORT_CHARS = 12
_READ_LIMIT_BYTES = 1 << 20
_LEVELS_LIMIT = 40
_FILES_LIMIT = 2_000
_TIMEOUT_S = 2.0
# Neither may a repository's settings start a program, nor does a reader take the lock of a writer.
_OPTIONS = ("-c", "core.fsmonitor=false", "--literal-pathspecs", "--no-optional-locks")


def revision_of(files: Sequence[str]) -> str:
    """Return `git REVISION` of the repository that holds the files; "" if none does.

    `+dirty` follows if a file is not in it as it is on the disk, `?` if git cannot tell.

    Args:
        files: absolute paths; those in other repositories do not count.
    """
    for file in files[:_FILES_LIMIT]:
        folder = _repository(Path(file).parent)
        revision = None if folder is None else _head(folder / ".git")
        if folder is None or revision is None:
            continue
        own = [path for path in files[:_FILES_LIMIT] if Path(path).is_relative_to(folder)]
        mark = _mark(folder, own)
        if mark is not None:
            return f"git {revision[:_SHORT_CHARS]}{mark}"
    return ""


def _repository(folder: Path) -> Path | None:
    """Return the nearest folder that holds a repository."""
    for parent in [folder, *folder.parents][:_LEVELS_LIMIT]:
        if os.path.lexists(parent / ".git"):
            return parent
    return None


def _head(place: Path) -> str | None:
    """Return the revision that is checked out, None without one."""
    folder = _git_folder(place)
    text = _read(folder / "HEAD").strip()
    reference = _REFERENCE.fullmatch(text)
    if reference is None:
        return text if _REVISION.fullmatch(text) else None
    name = reference[1]
    if ".." in name:
        return None
    common = _read(folder / "commondir").strip()  # of a linked worktree
    shared = folder / common if common else folder
    for base in (folder, shared):
        text = _read(base / name).strip()
        if _REVISION.fullmatch(text):
            return text
    for line in _read(shared / "packed-refs").splitlines():
        revision, _, packed = line.partition(" ")
        if packed == name and _REVISION.fullmatch(revision):
            return revision
    return None


def _git_folder(place: Path) -> Path:
    """Return the folder of the repository; a worktree or a submodule has a file that names it."""
    text = _read(place)
    return place.parent / text.removeprefix("gitdir:").strip() if text.startswith("gitdir:") else place


def _read(path: Path) -> str:
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(_READ_LIMIT_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        pass
    return ""


def _mark(folder: Path, files: Sequence[str]) -> str | None:
    """Return how the files differ from the revision: "", "+dirty", "?" if unknown; None if no file is in it."""
    git = shutil.which("git")
    if git is None:
        return "?"
    tracked = _run(git, folder, "ls-files", "-z", "--", *files)
    changed = _run(git, folder, "status", "--porcelain", "-z", "--untracked-files=no", "--", *files)
    if tracked is None or changed is None:
        return "?"
    count = tracked.count(b"\0")
    if not count:
        return None
    return "+dirty" if changed or count < len(files) else ""


def _run(git: str, folder: Path, *arguments: str) -> bytes | None:
    """Return the output of git, None if it fails or takes too long."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603 - git with arguments of ours
            [git, *_OPTIONS, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=True,
        )
        return done.stdout
    return None
