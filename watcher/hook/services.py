"""The services of one hook: which of them takes the next task.

A service that cannot be reached rests, each time twice as long. One that was slow or busy is used after the others, but
never left out: the task may be at fault, and no other may suffer for it.
"""

from collections.abc import Callable, Collection, Sequence

from loguru import logger

from watcher.backoff import doubled_s
from watcher.validation import is_loopback

REST_FIRST_S = 1.0
_REST_LIMIT_S = 60.0
_SLOW_S = 30.0


def warn_of_plain_text(name: str, host: str) -> None:
    """Log a warning if a service on another machine is asked without TLS."""
    if not is_loopback(host):
        logger.warning(
            "hook.plain_text: an answer can be changed on its way from another machine; use https://", service=name
        )


class Service:
    """One service and its health. `name` is the public part of its URL; the other parts may be secret."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self.in_flight = 0
        self.failures = 0
        self.rests_until_s = 0.0
        self.slow_until_s = 0.0
        self.code_version = ""  # of its last answer
        self.accepted_version = ""  # of its first answer since the start or the last reload

    def version(self) -> str:
        """Return the name, and the version that the code gave itself."""
        return f"{self.name} {self.code_version}".strip()

    def answered(self, code_version: str) -> None:
        """Record an answer with the version of its code; "" for a reply without one."""
        if self.failures:
            logger.info("hook.service_back: the service replies again", service=self.name)
        self.failures, self.slow_until_s = 0, 0.0
        self.code_version = code_version or self.code_version
        self.accepted_version = self.accepted_version or code_version


class ServicePool:
    """The services of a hook. `now_s` is a monotonic clock in seconds."""

    def __init__(self, services: Sequence[Service], now_s: Callable[[], float]) -> None:
        self.services = services
        self._now_s = now_s

    def choose(self, tried: Collection[Service]) -> Service | None:
        """Return the service with the least work; one that was slow comes last. None if all others rest."""
        now_s = self._now_s()
        able = [service for service in self.services if service not in tried and service.rests_until_s <= now_s]
        return min(able, key=lambda service: (service.slow_until_s > now_s, service.in_flight), default=None)

    def rest(self, service: Service, reason: str) -> None:
        """Leave out a service that cannot be reached, for a time that doubles."""
        if self._now_s() < service.rests_until_s:
            return  # Another task has found the same.
        service.failures += 1
        rest_s = doubled_s(service.failures, REST_FIRST_S, _REST_LIMIT_S)
        service.rests_until_s = self._now_s() + rest_s
        level = "WARNING" if service.failures == 1 else "DEBUG"
        logger.log(level, "hook.service_down: the service cannot be reached", service=service.name, reason=reason)

    def delay(self, service: Service) -> None:
        """Use a slow or busy service after the others for a while."""
        service.slow_until_s = self._now_s() + _SLOW_S

    def changed(self) -> str:
        """Return the services whose code names another version than that of their first answer; "" without one."""
        return ", ".join(
            f"{service.name} (was {service.accepted_version}, is {service.code_version})"
            for service in self.services
            if service.code_version != service.accepted_version
        )

    def accept_versions(self) -> None:
        """Take the versions of the last answers for the accepted ones."""
        for service in self.services:
            service.accepted_version = service.code_version
