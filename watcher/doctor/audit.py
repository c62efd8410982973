"""Check of the receivers of roots: the file can be written and holds roots of this contract, alerts have a service."""

import os
import tempfile
from pathlib import Path

from watcher.doctor.finding import Notes
from watcher.errors import FixUsage
from watcher.report.audit_roots import read_root_lines
from watcher.settings.model import Settings


def check_audit(settings: Settings, notes: Notes) -> None:
    """Add findings on the receivers that [audit] names. The webhook gets nothing: its first message is a root."""
    section = settings.audit
    if section.alerts and not settings.alerts.urls:
        notes.warn(
            "alerts",
            "audit.alerts: the root reaches nobody, as alerts.urls names no service; name one (docs/alerts.md)",
        )
    if section.roots_file:
        _check_file(Path(section.roots_file), settings.chain.chain_id, settings.task_manager.address_bytes, notes)


def _check_file(path: Path, chain_id: int, task_manager: bytes, notes: Notes) -> None:
    """Add a finding on the file, or on the folder that it will be made in."""
    folder = path.absolute().parent
    try:
        path.lstat()
    except FileNotFoundError:
        if folder.is_dir():
            _check_folder(path, folder, notes)
        else:
            _wrong(notes, f"the folder {folder} does not exist; make it, or name another")
        return
    except OSError as error:
        _wrong(notes, f"{path} cannot be reached ({error.strerror}); correct the rights, or name another file")
        return
    try:
        count = len(read_root_lines(path, chain_id, task_manager))
    except FixUsage as error:
        _wrong(notes, f"{error}; name another file, or correct this one")
        return
    if os.access(path, os.W_OK):
        notes.ok("roots file", f"{path}, writable, {count} roots")
    else:
        _wrong(notes, f"{path} may not be written by this user; correct its owner or mode")


def _check_folder(path: Path, folder: Path, notes: Notes) -> None:
    """Add a finding on the folder that has no such file yet."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            notes.ok("roots file", f"{path} will be made with the first root")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        _wrong(notes, f"no file can be made in {folder} ({reason}); let this user write there, or name another")


def _wrong(notes: Notes, message: str) -> None:
    notes.wrong("roots file", f"audit.roots_file: {message}")
