"""Notifications to the service manager: the datagrams of sd_notify(3), without a library.

Imports nothing of ours but `text`. Invariant: no call raises or waits for its reader; without `NOTIFY_SOCKET` every
call does nothing.
"""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from loguru import logger

from watcher.text import escape

_STATUS_LIMIT_CHARS = 500


@dataclass(frozen=True, slots=True)
class Notifier:
    """The manager's socket: a path, `@name` for an abstract socket, or "" for none.

    Each method sends one notification and returns True if the manager took it.
    """

    address: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Notifier":
        """Return a notifier for the address in `NOTIFY_SOCKET`."""
        return cls(environ.get("NOTIFY_SOCKET", ""))

    def ready(self, status: str = "") -> bool:
        """Say that the start, or a reload, is complete."""
        return self._send("READY=1", *_status(status))

    def reloading(self, status: str = "") -> bool:
        """Say that a reload begins; `ready` ends it. MONOTONIC_USEC is required since systemd 253."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", *_status(status))

    def status(self, text: str) -> bool:
        """Set the line that `systemctl status` shows."""
        return self._send(*_status(text))

    def stopping(self, status: str = "") -> bool:
        """Say that the stop has begun."""
        return self._send("STOPPING=1", *_status(status))

    def watchdog(self) -> bool:
        """Ping the watchdog. Call it only while the daemon makes progress."""
        return self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for so many seconds more, from now on, to start or stop."""
        return self._send(f"EXTEND_TIMEOUT_USEC={max(1, round(seconds * 1_000_000))}")

    def _send(self, *fields: str) -> bool:
        if not self.address or not fields:
            return False
        target = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(fields).encode("utf-8", "replace"), target)
        except (OSError, ValueError) as error:
            logger.debug("daemon.notify_failed: the service manager did not take a notification", reason=str(error))
            return False
        return True


def _status(text: str) -> tuple[str, ...]:
    # Escaped, because a line break in it would begin another field.
    return (f"STATUS={escape(text)[:_STATUS_LIMIT_CHARS]}",) if text else ()


def watchdog_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return the seconds between two pings, half of WATCHDOG_USEC; None if the manager does not watch this process."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0):
        return None
    if pid and pid != str(os.getpid()):  # meant for another process
        return None
    return int(text) / 2_000_000
