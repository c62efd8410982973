"""Credential files that every user of the machine can read. Told, not refused: containers mount theirs like that."""

import os
from pathlib import Path

from watcher.settings.names import credential_name
from watcher.settings.problems import FIELDS

_OTHERS_ENTER = 0o001
_OTHERS_READ = 0o004


def exposed(folder: str) -> list[str]:
    """Names of the settings' files in the credentials folder that others can read, "" for no folder.

    A folder that others cannot enter keeps its files to itself, whatever their modes.
    """
    if not folder:
        return []
    try:
        if not Path(folder).stat().st_mode & _OTHERS_ENTER:
            return []
        wanted = {credential_name(key) for key in FIELDS}
        with os.scandir(folder) as entries:
            return sorted(one.name for one in entries if one.name in wanted and one.stat().st_mode & _OTHERS_READ)
    except OSError:
        return []  # what cannot be read is told where the settings are loaded


def words_about(names: list[str]) -> str:
    """What is wrong with these files, and what to do."""
    return f"every user of this machine can read {', '.join(names)} in $CREDENTIALS_DIRECTORY; chmod o= them"
