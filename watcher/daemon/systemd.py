"""Talking to the service manager: the datagrams of sd_notify(3), without a library.

Imports nothing of ours but `redact`. Invariant: no call raises or waits, whoever listens; without `NOTIFY_SOCKET`
every call does nothing.
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
    """Where to send to: a path, `@name` for an abstract socket, or "" for nowhere."""

    address: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Notifier":
        """The address in `NOTIFY_SOCKET`."""
        return cls(environ.get("NOTIFY_SOCKET", ""))

    def ready(self, status: str = "") -> bool:
        """Started: other units may go on."""
        return self._send("READY=1", *_status(status))

    def reloading(self, status: str = "") -> bool:
        """Reading the settings again; `ready` says when it is done. The clock is what newer managers ask for."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", *_status(status))

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(*_status(text))

    def stopping(self, status: str = "") -> bool:
        """Draining has begun."""
        return self._send("STOPPING=1", *_status(status))

    def watchdog(self) -> bool:
        """Still making progress. Call it only when that is true."""
        return self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> bool:
        """Starting or stopping needs up to so many seconds more, counted from now."""
        return self._send(f"EXTEND_TIMEOUT_USEC={max(1, round(seconds * 1_000_000))}")

    def _send(self, *fields: str) -> bool:
        """Whether the datagram was handed over. A manager that does not listen is no reason to stop work."""
        if not self.address or not fields:
            return False
        target = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(fields).encode("utf-8", "replace"), target)
        except (OSError, ValueError) as error:
            logger.debug("The service manager did not take a notification: {}", error)
            return False
        return True


def _status(text: str) -> tuple[str, ...]:
    # Escaped, because a line break in it would be another field.
    return (f"STATUS={escape(text)[:_STATUS_LIMIT_CHARS]}",) if text else ()


def watchdog_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often to call `Notifier.watchdog`: half of what the manager allows. None where it does not watch us."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0):
        return None
    if pid and pid != str(os.getpid()):  # meant for another process
        return None
    return int(text) / 2_000_000
