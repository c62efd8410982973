"""The files of a new project of a hook, from the templates in the folder `files`.

A template is `files/LANGUAGE/PATH.tmpl`, or `files/common/PATH.tmpl` for every language; `dot-` at the begin of a name
stands for a dot. Invariant: a project is written as a whole, or nothing of it.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from importlib import resources
from pathlib import Path

from watcher.errors import FixUsage
from watcher.files import program_version
from watcher.settings.template import render
from watcher.text import escape

_SUFFIX = ".tmpl"
_CONFIG = "watcher.toml"
_NAME_LIMIT_CHARS = 64
_FALLBACK = "avs-hook"


class Language(StrEnum):
    """The language of a hook."""

    PYTHON = "python"
    TYPESCRIPT = "typescript"
    GO = "go"
    SHELL = "shell"


# The programs that build and run a hook, and where they are to be had.
_PROGRAMS_OF = {
    Language.TYPESCRIPT: (("node", "npm"), "https://nodejs.org"),
    Language.GO: (("go",), "https://go.dev/doc/install"),
    Language.SHELL: (("sh", "awk"), "your distribution"),
}
_TARGETS = {
    Language.PYTHON: "hook:respond",
    Language.TYPESCRIPT: "exec:node dist/main.js",
    Language.GO: "exec:./hook",
    Language.SHELL: "exec:./hook.sh",
}
_TYPES = {"hook.message": "(uint256 number)", "hook.response": "(uint256 square)"}
_PROGRAMS = frozenset({"hook.sh"})


def project_files(language: Language, name: str) -> dict[str, str]:
    """Return the text of each file by its path within the project.

    Args:
        language: the language of the hook.
        name: the project's name, as `project_name` returns it.
    """
    values = {"@PROJECT@": name, "@VERSION@": program_version()}
    texts = {_CONFIG: render({"hook.target": _TARGETS[language], "hook.app_dir": ".", **_TYPES})}
    for folder in ("common", str(language)):
        for path, text in _templates(Path(str(resources.files("watcher"))) / "project" / "files" / folder):
            for mark, value in values.items():
                text = text.replace(mark, value)
            texts[path] = text
    return texts


def _templates(root: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(root.rglob(f"*{_SUFFIX}")):
        parts = file.relative_to(root).with_suffix("").parts
        yield "/".join(re.sub("^dot-", ".", part) for part in parts), file.read_text(encoding="utf-8")


def missing_programs(language: Language) -> str:
    """Return which programs of a language are not on the PATH, and where they are to be had; "" if none is missing."""
    names, place = _PROGRAMS_OF.get(language, ((), ""))
    missing = [name for name in names if shutil.which(name) is None]
    return f"{' and '.join(missing)} ({place})" if missing else ""


def project_name(folder: Path) -> str:
    """Return a name for the project in a folder: lower-case letters, digits and hyphens, as pip, npm and Go take it."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower())[:_NAME_LIMIT_CHARS].strip("-")
    return name if name[:1].isalpha() else f"{_FALLBACK}-{name}".strip("-")


def write_project(folder: Path, language: Language) -> list[str]:
    """Write a new project and return the paths of its files.

    Raises:
        FixUsage: the folder holds one of the files already, or cannot be written.
    """
    try:
        folder = folder.resolve()  # `..` and links
        texts = project_files(language, project_name(folder))
        existing = [path for path in texts if os.path.lexists(folder / path)]
        if existing:
            raise FixUsage(
                f"{escape(str(folder))} has {', '.join(sorted(existing)[:3])} already; nothing was written. "
                "Name a new folder"
            )
        if folder.exists() and not folder.is_dir():
            raise FixUsage(f"{escape(str(folder))} is a file; name a new folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _write(folder, texts)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or "it is not a path"
        raise FixUsage(f"{escape(str(folder))} cannot be written: {reason}") from None
    return sorted(texts)


def _write(folder: Path, texts: dict[str, str]) -> None:
    """Write into a temporary folder, then move: a full disk leaves no half of a project."""
    with tempfile.TemporaryDirectory(
        prefix=".watcher-init-", dir=folder if folder.exists() else folder.parent
    ) as beside:
        new = Path(beside) / "project"
        for path, text in texts.items():
            file = new / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            if path in _PROGRAMS:
                file.chmod(file.stat().st_mode | 0o111)
        if not folder.exists():
            new.rename(folder)
            return
        shutil.copytree(new, folder, dirs_exist_ok=True)
