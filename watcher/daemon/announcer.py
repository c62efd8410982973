"""The news of all AVSs for the service manager, which knows one process: ready, its status line, reload, watchdog.

Invariant: READY is sent once: when each AVS has started, waits or has failed, and at least one has started.
"""

import time
from collections.abc import Callable, Sequence
from enum import StrEnum

from watcher.daemon.systemd import Notifier

# With many AVSs some line changes all the time.
_STATUS_EVERY_S = 1.0


class Phase(StrEnum):
    """The phase of one AVS, as the status line and /readyz show it."""

    STARTING = "starting"
    WAITING = "waiting"
    RUNNING = "running"
    FAILED = "failed"
    ENDED = "ended"


class Announcement:
    """The news of one AVS. `text` says where it stands, or why it does not run."""

    def __init__(self, name: str, tell: Callable[["Announcement"], None], notifier: Notifier) -> None:
        """Begin with an AVS that starts.

        Args:
            name: the name of the AVS, "" for the only one.
            tell: called after each change.
            notifier: takes the pings of the watchdog.
        """
        self.name = name
        self.phase = Phase.STARTING
        self.text = ""
        self.failure = ""  # why the last run ended, until one is ready
        self.reloads = False
        self._tell = tell
        self._notifier = notifier

    def starting(self) -> None:
        """Say that the start begins anew."""
        self._change(Phase.STARTING, "")

    def waiting(self, text: str) -> None:
        """Say that the start waits."""
        self._change(Phase.WAITING, text)

    def status(self, text: str) -> None:
        """Set the line of an AVS that runs."""
        self._change(self.phase, text)

    def ready(self, text: str = "") -> None:
        """Say that the start, or a reload, is complete; "" keeps the line."""
        self.reloads, self.failure = False, ""
        self._change(Phase.RUNNING, text or self.text)

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it."""
        self.reloads = True
        self._tell(self)

    def failed(self, reason: str) -> None:
        """Say that the AVS does not run now, and why."""
        self.reloads, self.failure = False, reason
        self._change(Phase.FAILED, reason)

    def ended(self) -> None:
        """Say that the AVS has nothing to do any more, or was stopped."""
        self.reloads = False
        self._change(Phase.ENDED, "")

    @property
    def missing(self) -> str | None:
        """Return why the AVS does not run, None if it does."""
        return None if self.phase is Phase.RUNNING else self.failure or self.text or str(self.phase)

    def watchdog(self) -> None:
        """Ping the watchdog, as the stages of this AVS make steps."""
        self._notifier.watchdog()

    def _change(self, phase: Phase, text: str) -> None:
        self.phase, self.text = phase, text
        self._tell(self)


class Announcer:
    """The announcements of all AVSs, and the one process that they make for the service manager."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._all: list[Announcement] = []
        self._is_ready = False
        self._reloads = False
        self._told_s = 0.0
        self._phases: Sequence[Phase] = ()

    def add(self, name: str) -> Announcement:
        """Return the announcement of one more AVS."""
        self._all.append(Announcement(name, self._tell, self._notifier))
        return self._all[-1]

    def remove(self, announcement: Announcement) -> None:
        """Forget an AVS that the settings name no more."""
        self._all.remove(announcement)
        self._tell(announcement)

    def stopping(self) -> None:
        """Say that the process stops."""
        self._notifier.stopping("draining")

    def keep_alive(self) -> None:
        """Ping the watchdog while an AVS has no stages that could do so: it starts, waits or has failed."""
        if any(each.phase is not Phase.RUNNING for each in self._all):
            self._notifier.watchdog()

    def _tell(self, changed: Announcement) -> None:
        if any(each.reloads for each in self._all):
            if not self._reloads:
                self._reloads = True
                self._notifier.reloading("reading the settings again")
            return
        phases = [each.phase for each in self._all]
        is_news, self._phases = phases != self._phases, phases
        now_s = time.monotonic()
        if self._reloads or (not self._is_ready and Phase.RUNNING in phases and Phase.STARTING not in phases):
            self._is_ready, self._reloads = True, False
            self._notifier.ready(self._line(changed))
        elif (is_news or len(phases) == 1 or now_s - self._told_s >= _STATUS_EVERY_S) and changed.text:
            self._notifier.status(self._line(changed))
        else:
            return
        self._told_s = now_s

    def _line(self, changed: Announcement) -> str:
        """Return the status line: that of the only AVS, or how many run and each one's line, what fails first."""
        if len(self._all) == 1:
            return changed.text
        running = [each for each in self._all if each.phase is Phase.RUNNING]
        others = [each for each in self._all if each.phase is not Phase.RUNNING]
        lines = [f"{each.name}: {each.text or each.phase}" for each in (*others, *running)]
        return "; ".join([f"{len(running)} of {len(self._all)} AVSs run", *lines])
