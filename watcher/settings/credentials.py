"""Credential files that every user of the machine can read: a warning, for containers mount theirs like that."""

import os
from pathlib import Path

from watcher.settings.names import credential_name
from watcher.settings.problems import FIELDS

_OTHERS_ENTER = 0o001
_OTHERS_READ = 0o004


def exposed(folder: str) -> list[str]:
    """Return the names of settings in the credentials folder whose files other users can read.

    Files in a folder that others cannot enter are safe, whatever their modes. `folder` is "" without credentials.
    """
    if not folder:
        return []
    try:
        if not Path(folder).stat().st_mode & _OTHERS_ENTER:
            return []
        names = {credential_name(key) for key in FIELDS}
        with os.scandir(folder) as files:
            return sorted(file.name for file in files if _is_ours(file.name, names) and _is_open(file))
    except OSError:
        return []  # `load` reports a folder that cannot be read


def _is_ours(name: str, names: set[str]) -> bool:
    return name in names or name.partition("__")[2] in names  # of one AVS


def _is_open(file: "os.DirEntry[str]") -> bool:
    return bool(file.stat().st_mode & _OTHERS_READ)


def exposure_message(names: list[str]) -> str:
    """Return the warning about these files."""
    return f"every user of this machine can read {', '.join(names)} in $CREDENTIALS_DIRECTORY; chmod o= them"
