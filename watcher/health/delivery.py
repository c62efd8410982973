"""Delivery of messages to the alert services, by Apprise: the only file that uses it.

Invariant: `post` never waits and never raises. Each service has a thread and a short queue of its own, so that one that
hangs holds up neither the daemon nor the others; messages beyond the queue are counted and dropped.
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
from watcher.settings.model import Alerts as AlertSettings

_QUEUE_LIMIT = 16
_TRIES = 3
_PAUSES_S = (2.0, 10.0)
_CHECK_EVERY_S = 0.05


@dataclass(slots=True)
class _Pending:
    """A message on its way to one service."""

    message: Message
    tries: int = _TRIES
    done: threading.Event = field(default_factory=threading.Event)
    is_delivered: bool = False


class _Service:
    """One service and the thread that sends to it. The thread is a daemon thread: one that hangs ends with the process.

    `apprise` is an `apprise.Apprise` with one URL.
    """

    def __init__(self, name: str, apprise: Any, timeout_s: float) -> None:
        self.name = name
        self._apprise = apprise
        self._timeout_s = timeout_s
        self._queue: queue.Queue[_Pending | None] = queue.Queue(_QUEUE_LIMIT)
        self._closing = threading.Event()
        self._began_s: float | None = None
        self._dropped = 0
        self._failing = Once()
        self._is_stuck = False
        self._thread = threading.Thread(target=self._run, name=f"alerts {name}", daemon=True)
        self._thread.start()

    def post(self, pending: _Pending) -> None:
        try:
            self._queue.put_nowait(pending)
        except queue.Full:
            self._dropped += 1
            pending.done.set()
            self._failed(f"its queue is full, {self._dropped} alerts were dropped")

    def check(self) -> None:
        """Notice a delivery that hangs."""
        began_s = self._began_s
        is_stuck = began_s is not None and time.monotonic() - began_s > self._timeout_s
        if is_stuck and not self._is_stuck:
            self._failed(f"no reply within {self._timeout_s:g} s")
        self._is_stuck = is_stuck

    def close(self) -> None:
        self._closing.set()
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            pass  # the thread checks `_closing` between messages

    def _run(self) -> None:
        while (pending := self._queue.get()) is not None:
            pending.is_delivered = self._deliver(pending)
            pending.done.set()
            if not pending.is_delivered:
                self._failed("it did not accept an alert")
            elif self._failing.ends():
                logger.info("alert.delivery_recovered: alerts are delivered again", service=self.name)
            if self._closing.is_set() and self._queue.empty():
                return

    def _deliver(self, pending: _Pending) -> bool:
        for number in range(pending.tries):
            if number and self._closing.wait(_PAUSES_S[number - 1]):
                return False
            self._began_s = time.monotonic()
            try:
                if self._send(pending.message):
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
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the next alert has its chance
            logger.debug("alert.plugin_error: the plugin raised", service=self.name, error=type(error).__name__)
            return False

    def _failed(self, reason: str) -> None:
        if self._failing.begins():
            logger.warning(
                "alert.delivery_failed: alerts are not delivered; further failures are not logged",
                service=self.name,
                reason=reason,
            )


class Delivery:
    """All services of [alerts] urls."""

    def __init__(self, services: Sequence[_Service], timeout_s: float) -> None:
        self._services = services
        self._timeout_s = timeout_s

    @classmethod
    def of(cls, section: AlertSettings) -> "Delivery":
        """Return the services of `section`, each with its thread.

        Raises:
            FixConfiguration: Apprise does not support a URL; the error names it by its place.
        """
        urls, timeout_s = [url.get_secret_value() for url in section.urls], section.timeout_s
        plugins = _plugins(urls, timeout_s) if urls else []
        return cls([_Service(name, apprise, timeout_s) for name, apprise in plugins], timeout_s)

    @property
    def names(self) -> list[str]:
        return [service.name for service in self._services]

    def post(self, message: Message) -> None:
        """Queue the message for each service. Does not wait."""
        for service in self._services:
            service.post(_Pending(message))

    def check(self) -> None:
        """Notice deliveries that hang; call it every second."""
        for service in self._services:
            service.check()

    async def deliver(self, message: Message, clock: Clock) -> list[str]:
        """Send the message once to each service and wait within the limit. Return the names of those that failed."""
        pending = [(service, _Pending(message, tries=1)) for service in self._services]
        for service, delivery in pending:
            service.post(delivery)
        end_s = clock.monotonic_s() + self._timeout_s
        while clock.monotonic_s() < end_s and not all(delivery.done.is_set() for _, delivery in pending):
            await clock.sleep(_CHECK_EVERY_S)
        return [service.name for service, delivery in pending if not delivery.is_delivered]

    def close(self) -> None:
        """Accept no more messages. Those in the queues are still tried."""
        for service in self._services:
            service.close()


def _plugins(urls: Sequence[str], timeout_s: float) -> list[tuple[str, Any]]:
    """Return name and `apprise.Apprise` of each URL. Raises FixConfiguration."""
    import apprise  # late: a third of a second, and most commands never need it

    # `_Service` logs failures, once.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    # Nothing on the disk, no threads and no event loop of its own.
    asset = apprise.AppriseAsset(
        app_id="avs-task-watcher",
        app_desc="AVS task watcher",
        async_mode=False,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
        secure_logging=True,
    )
    plugins, problems = [], []
    for number, url in enumerate(urls, 1):
        service = apprise.Apprise(asset=asset)
        if not service.add(url):
            problems.append(f"alerts.urls: URL {number}: not a service that Apprise supports; see docs/alerts.md")
            continue
        plugin: Any = service[0]
        plugin.socket_connect_timeout = plugin.socket_read_timeout = max(0.1, timeout_s / 2)
        plugins.append((f"{plugin.service_name} (URL {number})", service))
    if problems:
        raise FixConfiguration(*problems)
    return plugins
