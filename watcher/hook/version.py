"""The version of a hook, as the ledger records it with each answer: `NAME@HASH PACKAGE VERSION git REVISION`.

The hash covers the whole package of the hook, and each other module of its folder that was loaded. Standard library
only, because a worker imports it. Invariant: a version depends on contents alone, not on folders or times.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

from watcher.hook.sources import INSTALLED, NO_SOURCE, SourceRecorder
from watcher.hook.values import ValueTypes
from watcher.text import clean

HASH_CHARS = 12
_FILES_LIMIT = 2_000
_BYTES_LIMIT = 64 << 20
_NAME_CHARS, _VERSION_CHARS, _LABEL_CHARS = 30, 16, 128
_NO_SOURCES = ("__pycache__", "node_modules")
# What a hook may write beside its code while it runs.
_WRITTEN = (".pyc", ".pyo", ".log", ".tmp", ".swp", ".lock", ".pid", ".db", ".db-wal", ".db-shm", ".sqlite", ".sqlite3")


@dataclass(frozen=True, slots=True)
class Origin:
    """The code of a hook: `NAME@HASH` over all of it, its files, and its installed package with the version, or ""."""

    version: str
    files: tuple[str, ...]
    package: str = ""

    def label(self, types: ValueTypes) -> str:
        """Return the version to be recorded; the `types` of its values are part of the hash."""
        details = " ".join(filter(None, (self.package, _revision(self.files))))
        room = _LABEL_CHARS - len(details) - 1
        return f"{_shortened(types.added_to(self.version), room)} {details}".rstrip()


def _shortened(version: str, limit_chars: int) -> str:
    """Return a version with a long name cut, and the hash whole."""
    name, _, digest = version.rpartition("@")
    return f"{name[: max(8, limit_chars - len(digest) - 1)]}@{digest}"


def _revision(files: tuple[str, ...]) -> str:
    from watcher.hook.revision import revision_of  # late: a worker that replaces another has no label

    own = [file for file in files if not _is_installed(file)]
    return revision_of(own) if own else ""


def module_origin(path: str, recorder: SourceRecorder, module: ModuleType) -> Origin:
    """Return the origin of a Python hook.

    Args:
        path: its target, `module:attribute`.
        recorder: knows the modules that were loaded.
        module: the hook's package, or its module if that is in none.
    """
    contents = {file: (f"module {name}", digest) for file, (name, digest) in recorder.modules.items()}
    for folder in list(getattr(module, "__path__", ())):
        contents |= _contents(Path(folder), recorder.files)
    lines = sorted(f"{name} {digest}\n" for name, digest in contents.values())
    digest = hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:HASH_CHARS]
    file = getattr(module, "__file__", None) or next(iter(contents), "")
    package = _package(module.__name__, Path(file)) if file else ""
    return Origin(f"{path}@{digest if lines else NO_SOURCE}", tuple(contents), package)


def _contents(folder: Path, loaded: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the place in a folder, and the SHA-256, of each of its files; `loaded` has those that are known."""
    contents: dict[str, tuple[str, str]] = {}
    left_bytes = _BYTES_LIMIT
    for path in _walk(folder):
        if len(contents) >= _FILES_LIMIT:
            break
        name = str(path.relative_to(folder.parent))
        if (digest := loaded.get(str(path))) is not None:
            contents[str(path)] = name, digest
            continue
        try:
            size = path.stat().st_size
            if not path.is_file() or size > left_bytes:
                continue
            with path.open("rb") as file:
                contents[str(path)] = name, hashlib.file_digest(file, "sha256").hexdigest()
            left_bytes -= size
        except OSError:
            continue  # closed to the hook: no part of its code
    return contents


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, in one order, without hidden ones, caches and what is written while it runs."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _NO_SOURCES and not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith(_WRITTEN):
                yield Path(place, name)


def program_origin(version: str, hashes: Mapping[str, str], home: Path) -> Origin:
    """Return the origin of a program.

    Args:
        version: its version, `NAME@HASH`.
        hashes: the files that this covers: the program, then its arguments.
        home: the folder of the hook. The other files in the folder of an argument count, too, if it lies below `home`:
            the modules of a script.
    """
    program, *arguments = hashes
    folders = {Path(path).parent for path in arguments} - {home}
    contents: dict[str, tuple[str, str]] = {}
    for folder in sorted(folder for folder in folders if folder.is_relative_to(home)):
        contents |= _contents(folder, hashes)
    lines = sorted(f"{name} {digest}\n" for path, (name, digest) in contents.items() if path not in hashes)
    if lines:
        name, _, digest = version.rpartition("@")
        version = f"{name}@{hashlib.sha256(''.join([digest, *lines]).encode()).hexdigest()[:HASH_CHARS]}"
    return Origin(version, (*reversed(arguments), *(path for path in contents if path not in hashes), program))


def _package(module: str, file: Path) -> str:
    """Return name and version of the installed package that a module belongs to, "" without one."""
    from importlib import metadata  # late: it costs 20 ms

    top = module.partition(".")[0]
    names = [top, top.replace("_", "-")]
    if _is_installed(str(file)):
        names += metadata.packages_distributions().get(top, [])
    for name in names:
        try:
            distribution = metadata.distribution(name)
            if _holds(distribution, file):
                return f"{clean(distribution.name, _NAME_CHARS)} {clean(distribution.version, _VERSION_CHARS)}"
        except (metadata.PackageNotFoundError, OSError, ValueError, TypeError, AttributeError):
            continue
    return ""


def _holds(distribution: object, file: Path) -> bool:
    """Return True if an installed package holds a file, in its folder or as an editable install (PEP 610)."""
    folder = Path(str(distribution.locate_file("")))  # type: ignore[attr-defined]
    if file.is_relative_to(folder):
        return True
    text = distribution.read_text("direct_url.json")  # type: ignore[attr-defined]
    url = urlsplit(json.loads(text)["url"]) if text else None
    return url is not None and url.scheme == "file" and file.is_relative_to(unquote(url.path))


def _is_installed(file: str) -> bool:
    return any(part in INSTALLED for part in Path(file).parts)
