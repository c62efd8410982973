"""The name of this process, by which another one on the same host can tell that it has ended."""

import os
import socket
from pathlib import Path

from watcher.text import escape

_HOST_LIMIT_CHARS = 100
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def this_host() -> str:
    """Return the name of this host."""
    return escape(socket.gethostname())[:_HOST_LIMIT_CHARS]


def process_name() -> str:
    """Return the boot, the namespace of process ids and the process; "" where the system does not tell (proc(5))."""
    space, begun = _space(), _begun(os.getpid())
    return f"{space}/{os.getpid()}/{begun}" if space and begun else ""


def was_ended(name: str) -> bool:
    """Return True if that process ran in this namespace and has ended; False also where nobody can tell from here."""
    space, pid, begun = [*name.rsplit("/", 2), "", ""][:3]
    return bool(space) and space == _space() and pid.isdecimal() and _begun(int(pid)) != begun


def _space() -> str:
    try:
        return f"{_BOOT_ID.read_text().strip()}/{_NAMESPACE.stat().st_ino}"
    except OSError:
        return ""


def _begun(pid: int) -> str:
    """Return when a process began, in ticks since the boot, "" if it has ended; a zombie has, too."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
