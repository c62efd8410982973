"""Carries messages to the alert services, by Apprise: the only file that knows it.

Invariant: posting never waits and never raises. Each service has a thread and a short queue of its own, so that one
that hangs holds up neither the daemon nor the others; what does not fit is counted.
"""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loguru import logger

from watcher.clock import Clock
from watcher.errors import FixConfiguration
from watcher.health.alert_text import Message
from watcher.once import Once
from watcher.settings.model import Alerts

_QUEUE_LIMIT = 16
_TRIES = 3
_PAUSES_S = (2.0, 10.0)
_LOOK_S = 0.05


@dataclass(slots=True)
class _Letter:
    message: Message
    tries: int = _TRIES
    done: threading.Event = field(default_factory=threading.Event)
    arrived: bool = False


class _Service:
    """One service, with the thread that speaks to it. The thread is a daemon: a hanging one ends with the process."""

    def __init__(self, name: str, apprise: Any, timeout_s: float) -> None:
        self.name = name
        self._apprise = apprise
        self._timeout_s = timeout_s
        self._letters: queue.Queue[_Letter | None] = queue.Queue(_QUEUE_LIMIT)
        self._closing = threading.Event()
        self._began_s: float | None = None
        self._lost = 0
        self._failing = Once()
        self._stuck = False
        self._thread = threading.Thread(target=self._run, name=f"alerts {name}", daemon=True)
        self._thread.start()

    def post(self, letter: _Letter) -> None:
        try:
            self._letters.put_nowait(letter)
        except queue.Full:
            self._lost += 1
            letter.done.set()
            self._failed(f"takes no more, {self._lost} alerts were lost")

    def look(self) -> None:
        """Notice a delivery that hangs."""
        began_s = self._began_s
        stuck = began_s is not None and time.monotonic() - began_s > self._timeout_s
        if stuck and not self._stuck:
            self._failed(f"did not answer within {self._timeout_s:g} s")
        self._stuck = stuck

    def close(self) -> None:
        self._closing.set()
        try:
            self._letters.put_nowait(None)
        except queue.Full:
            pass  # the thread looks at `_closing` between letters

    def _run(self) -> None:
        while (letter := self._letters.get()) is not None:
            letter.arrived = self._carry(letter)
            letter.done.set()
            if not letter.arrived:
                self._failed("did not take an alert")
            elif self._failing.ends():
                logger.info("alerts by {} arrive again", self.name)
            if self._closing.is_set() and self._letters.empty():
                return

    def _carry(self, letter: _Letter) -> bool:
        for number in range(letter.tries):
            if number and self._closing.wait(_PAUSES_S[number - 1]):
                return False
            self._began_s = time.monotonic()
            try:
                if self._send(letter.message):
                    return True
            finally:
                self._began_s = None
        return False

    def _send(self, message: Message) -> bool:
        try:
            return bool(
                self._apprise.notify(
                    body=message.body, title=message.title, notify_type=message.kind, body_format="text"
                )
            )
        except Exception as error:  # noqa: BLE001 - whatever a plugin does, the next alert has its chance
            logger.debug("alerts by {}: {}", self.name, type(error).__name__)
            return False

    def _failed(self, words: str) -> None:
        if self._failing.begins():
            logger.warning("alerts by {}: it {}; this is told once", self.name, words)


class Delivery:
    """All services of the settings."""

    def __init__(self, lines: Sequence[_Service], timeout_s: float) -> None:
        self._lines = lines
        self._timeout_s = timeout_s

    @classmethod
    def of(cls, section: Alerts) -> "Delivery":
        """Raises FixConfiguration naming each URL that Apprise does not take, by its place."""
        timeout_s = section.timeout_s
        plugins = _plugins([url.get_secret_value() for url in section.urls], timeout_s) if section.urls else []
        return cls([_Service(name, apprise, timeout_s) for name, apprise in plugins], timeout_s)

    @property
    def names(self) -> list[str]:
        return [line.name for line in self._lines]

    def post(self, message: Message) -> None:
        """Send it off. Does not wait."""
        for line in self._lines:
            line.post(_Letter(message))

    def look(self) -> None:
        """Notice what hangs; call it now and then."""
        for line in self._lines:
            line.look()

    async def deliver(self, message: Message, clock: Clock) -> list[str]:
        """Send it once to each, wait within the time limit. Returns the names of those it did not reach."""
        letters = [(line, _Letter(message, tries=1)) for line in self._lines]
        for line, letter in letters:
            line.post(letter)
        end_s = clock.monotonic_s() + self._timeout_s
        while clock.monotonic_s() < end_s and not all(letter.done.is_set() for _, letter in letters):
            await clock.sleep(_LOOK_S)
        return [line.name for line, letter in letters if not letter.arrived]

    def close(self) -> None:
        """No more messages. What is queued is still tried."""
        for line in self._lines:
            line.close()


def _plugins(urls: Sequence[str], timeout_s: float) -> list[tuple[str, Any]]:
    import apprise  # late: a third of a second, and most commands never need it

    # What failed is told by us, once.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    # Nothing of it on the disk, no threads and no event loop of its own.
    asset = apprise.AppriseAsset(
        app_id="avs-task-watcher",
        app_desc="AVS task watcher",
        async_mode=False,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
        secure_logging=True,
    )
    found, problems = [], []
    for number, url in enumerate(urls, 1):
        one = apprise.Apprise(asset=asset)
        if not one.add(url):
            problems.append(
                f"alerts.urls: URL {number} is none that Apprise knows; see docs/alerts.md for the services"
            )
            continue
        plugin: Any = one[0]
        plugin.socket_connect_timeout = plugin.socket_read_timeout = max(0.1, timeout_s / 2)
        found.append((f"{plugin.service_name} (URL {number})", one))
    if problems:
        raise FixConfiguration(*problems)
    return found
