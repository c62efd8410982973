"""The settings, read again while the daemon runs (SIGHUP).

Invariant: either everything that can be taken over is, or nothing is and the old settings stay; requests and runs under
way end as they began. The hook is loaded again only after the settings were, and then as a whole or not at all.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

from loguru import logger

from watcher.clock import Clock
from watcher.daemon import log, parts, wiring
from watcher.daemon.announcer import Announcement
from watcher.daemon.hooks import Hooks
from watcher.errors import FixConfiguration
from watcher.health.alerts import Alerts
from watcher.operator.client import Client
from watcher.operator.switch import Switch, Switches
from watcher.redact import Redactor
from watcher.settings.model import Settings
from watcher.settings.problems import FIELDS, Key
from watcher.stage import Wakeups

_DANGER = ("deadline_blocks", "deadline_s")
# The keys that the running daemon takes over. All others are built into connections, workers and the ledger.
RELOADABLE: frozenset[Key] = frozenset(
    {
        *((section, name) for section, name in FIELDS if section in ("log", "alerts") and name not in _DANGER),
        *(("operator", name) for name in ("username", "password", "retry_base_s", "retry_max_s")),
        *(("operator", name) for name in ("expected_quorum_numbers", "expected_threshold", "failover")),
        *((section, name) for section, name in FIELDS if section == "operator.direct"),
        *(("hook", name) for name in ("max_attempts", "retry_base_s", "target", "app_dir")),
        *(("hook", name) for name in ("message", "response", "run_twice")),
        *((section, name) for section, name in FIELDS if section == "hook.shadow"),
    }
)
_CLIENT = frozenset({("operator", "username"), ("operator", "password")})
# [operator.direct] falls back to the credentials of [operator].
_DIRECT = _CLIENT | {key for key in RELOADABLE if key[0] == "operator.direct"}
_ALERTS = frozenset(key for key in RELOADABLE if key[0] == "alerts")


class Reload:
    """Takes over new settings and new code of the hook."""

    def __init__(
        self,
        load: Callable[[], Settings],
        settings: Settings,
        *,
        clock: Clock,
        redactor: Redactor,
        alerts: Alerts,
        stages: wiring.Stages,
        switches: Switches | None,
        hooks: Hooks | None,
    ) -> None:
        """Take the parts that follow the settings.

        Args:
            load: loads the settings; raises FixConfiguration.
            settings: the present settings.
            clock: the time of new clients.
            redactor: learns new secrets; old ones stay hidden, as a late reply may still hold one.
            alerts: follows [alerts].
            stages: respond and submit follow [hook] and [operator].
            switches: the senders to the APIs; None where the daemon only observes.
            hooks: the hook; None likewise.
        """
        self._load = load
        self._settings = settings
        self._clock = clock
        self._redactor = redactor
        self._alerts = alerts
        self._stages = stages
        self._switches = switches
        self._hooks = hooks

    async def follow(self, hangup: asyncio.Event, wakeups: Wakeups, announcement: Announcement) -> None:
        """Reload at each `hangup`; several that come during a reload make one more."""
        while True:
            await hangup.wait()
            hangup.clear()
            announcement.reloading()
            if await self.run():
                await self.load_hooks()
            wakeups.wake("submit")
            announcement.ready()  # the next status line follows within seconds

    async def run(self) -> bool:
        """Load the settings and take them over. Return False if the old ones stay; the log has the reason."""
        try:
            settings = self._load()
            changed = set(differences(self._settings, settings))
            await self._take(adopt(self._settings, settings), changed & RELOADABLE)
        except FixConfiguration as error:
            logger.error(
                "settings.reload_failed: the old settings stay; `watcher check` lists every problem",
                reason=error.problems[0],
                problems=len(error.problems),
            )
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon goes on as it was
            logger.error(
                "settings.reload_failed: the old settings stay", reason=str(error) or type(error).__name__, problems=1
            )
            return False
        logger.info(
            "settings.reloaded: the settings were read again",
            changed=_names(changed & RELOADABLE),
            at_next_start=_names(changed - RELOADABLE),
        )
        return True

    async def load_hooks(self) -> None:
        """Load the hook that the settings name, or its code again. The old one goes on answering if that fails."""
        if self._hooks is not None:
            await self._hooks.reload(self._settings.hook)

    async def _take(self, settings: Settings, changed: set[Key]) -> None:
        """Take over settings; everything that can fail comes first."""
        fresh: list[tuple[Switch, Client | None]] = []
        try:
            if self._switches is not None and changed & _CLIENT:
                fresh.append((self._switches.main, parts.client(settings.operator, self._clock)))
            if self._switches is not None and changed & _DIRECT:
                fresh.append((self._switches.direct, parts.direct_client(settings.operator, self._clock)))
            if changed & _ALERTS:
                self._alerts.follow(settings.alerts)
        except BaseException:
            for _, client in fresh:
                if client is not None:
                    await client.aclose()
            raise
        self._redactor.add(settings.secrets())
        for switch, client in fresh:
            await switch.replace(client)
        if self._stages.submit is not None and self._stages.make_router is not None:
            router = self._stages.make_router(settings.operator)
            self._stages.submit.follow(wiring.submit_plan(settings.operator), router)
        if self._stages.respond is not None:
            self._stages.respond.follow(wiring.respond_plan(settings.hook))
        log.set_up(os.environ.get("WATCHER_LOG", settings.log.level), settings.log.format, self._redactor)
        self._settings = settings


def differences(old: Settings, new: Settings) -> Iterator[Key]:
    """Yield the keys that have another value."""
    for section, name in FIELDS:
        if _value(old, (section, name)) != _value(new, (section, name)):
            yield section, name


def adopt(old: Settings, new: Settings) -> Settings:
    """Return the old settings with all reloadable values of the new ones.

    Raises FixConfiguration where the two halves do not fit together.
    """
    tables: dict[str, Any] = {}
    for key in FIELDS:
        tables.setdefault(key[0], {})[key[1]] = _value(new if key in RELOADABLE else old, key)
    for path in sorted(tables, reverse=True):  # a table within a table is made before the one around it
        tables[path] = _table(old, path).model_copy(update=tables[path])
        parent, _, name = path.rpartition(".")
        if parent:
            tables[parent][name] = tables.pop(path)
    return Settings(**tables)


def _value(settings: Settings, key: Key) -> Any:
    return getattr(_table(settings, key[0]), key[1])


def _table(settings: Settings, path: str) -> Any:
    return attrgetter(path)(settings)


def _names(keys: set[Key]) -> str:
    return ", ".join(sorted(".".join(key) for key in keys)) or "nothing"
