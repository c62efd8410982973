"""The disk under the ledger: how much room there is, and whether it keeps what is written."""

import shutil
from pathlib import Path

from watcher.doctor.finding import MEND, Notes

_MIB = 1024 * 1024
_LOW_SPACE_BYTES = 200 * _MIB
_NO_SPACE_BYTES = 10 * _MIB
_MOUNTS = Path("/proc/self/mounts")
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_OVER_A_NETWORK = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "virtiofs",
        "afs",
        "ceph",
        "glusterfs",
        "fuse.sshfs",
        "fuse.glusterfs",
    }
)


def check(folder: Path, notes: Notes) -> None:
    """Lines about the file system that holds this folder."""
    _space(folder, notes)
    try:
        kind = kind_of(folder.resolve(), _MOUNTS.read_text(errors="replace"))
    except OSError:
        return  # a system without /proc keeps it to itself
    if kind in _IN_MEMORY:
        words = (
            f"ledger.url: {folder} lies in memory ({kind}): at the next start of the machine every answer is forgotten"
        )
        notes.warn("file system", f"{words}; name a disk")
    elif kind in _OVER_A_NETWORK:
        words = f"ledger.url: {folder} is on a network disk ({kind}), where SQLite's locks may not hold"
        notes.warn("file system", f"{words}; name a local disk, or use PostgreSQL")


def kind_of(folder: Path, mounts: str) -> str:
    """The kind of file system by the text of /proc/mounts, "" when none fits: the last mounted of the nearest ones."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].encode().decode("unicode_escape"))  # a space is written \\040
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def _space(folder: Path, notes: Notes) -> None:
    free = shutil.disk_usage(folder).free
    if free < _NO_SPACE_BYTES:
        words = f"{free // _MIB} MiB free in {folder}: nothing can be remembered; make room"
        notes.wrong("space", words, MEND)
    elif free < _LOW_SPACE_BYTES:
        notes.warn("space", f"less than {_LOW_SPACE_BYTES // _MIB} MiB free in {folder}; make room")
    else:
        notes.ok("space", f"{free // _MIB} MiB free in {folder}")
