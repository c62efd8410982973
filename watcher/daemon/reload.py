"""Reading the settings again while the daemon runs (SIGHUP), and the API's client that can be changed meanwhile.

Invariant: either everything that can be taken over is, or nothing is and the old settings stay; what is on its way is
finished as it began. The hook is loaded again only after the settings were, and then as a whole or not at all.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from loguru import logger

from watcher.clock import Clock
from watcher.daemon import log, wiring
from watcher.daemon.systemd import Notifier
from watcher.errors import FixConfiguration, TryLater
from watcher.health.alerts import Alerts
from watcher.health.observers import DIRECT, Observer
from watcher.hook.pool import WorkerPool
from watcher.operator.client import Client
from watcher.operator.probe import Probe
from watcher.operator.request import Request
from watcher.operator.route import Sender
from watcher.settings.model import Settings
from watcher.settings.problems import FIELDS, Key
from watcher.stage import Wakeups
from watcher.task import Refused, Sent

_DANGER = ("deadline_blocks", "deadline_s")
# What the running daemon takes over. Everything else is built into what is open: connections, workers, the ledger.
RELOADABLE: frozenset[Key] = frozenset(
    {
        *((section, name) for section, name in FIELDS if section in ("log", "alerts") and name not in _DANGER),
        *(("operator", name) for name in ("username", "password", "retry_base_s", "retry_max_s")),
        *(("operator", name) for name in ("expected_quorum_numbers", "expected_threshold", "failover")),
        *((section, name) for section, name in FIELDS if section == "operator.direct"),
        *(("hook", name) for name in ("max_attempts", "retry_base_s")),
    }
)
_CLIENT = frozenset({("operator", "username"), ("operator", "password")})
# What is not given for it is that of the first.
_DIRECT = _CLIENT | {key for key in RELOADABLE if key[0] == "operator.direct"}
_ALERTS = frozenset(key for key in RELOADABLE if key[0] == "alerts")


class Switch:
    """Sends with the client of the moment. A client that was replaced is closed after its last request.

    None is an API that is not configured: nothing is sent there.
    """

    def __init__(self, client: Client | None) -> None:
        self._client = client
        self._busy: dict[int, int] = {}

    async def send(self, request: Request) -> Sent:
        """As the client's."""
        client = self._client
        if client is None:
            return Sent(Refused("not sent: the API was taken out of the configuration"), None, b"", 0)
        self._busy[id(client)] = self._busy.get(id(client), 0) + 1
        try:
            return await client.send(request)
        finally:
            self._busy[id(client)] -= 1
            if client is not self._client:
                await self._retire(client)

    async def probe(self) -> Probe | None:
        """As the client's."""
        return None if self._client is None else await self._client.probe()

    async def tcp_probe(self) -> Probe | None:
        """As the client's."""
        return None if self._client is None else await self._client.tcp_probe()

    async def replace(self, client: Client | None) -> None:
        """Send with this one from now on."""
        old, self._client = self._client, client
        if old is not None:
            await self._retire(old)

    async def aclose(self) -> None:
        """Close the client of the moment."""
        if self._client is not None:
            await self._client.aclose()

    async def _retire(self, client: Client) -> None:
        if not self._busy.get(id(client)):
            self._busy.pop(id(client), None)
            await client.aclose()


class Switches:
    """The two APIs' senders: that of [operator], and that of [operator.direct], which may come and go."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.main = Switch(wiring.client(settings, clock))
        self.direct = Switch(wiring.direct_client(settings, clock))

    def watched(self, observer: Observer) -> tuple[Sender, Sender]:
        """Both, as the witness sees them."""
        return observer.sending(self.main), observer.sending(self.direct, DIRECT)

    @property
    def by_name(self) -> Mapping[str, Switch]:
        """Each by the witness's name for it."""
        return {"": self.main, DIRECT: self.direct}

    async def aclose(self) -> None:
        """Close both."""
        await self.main.aclose()
        await self.direct.aclose()


class Reload:
    """Reads the settings again and hands them round. `load` is how they were read the first time."""

    def __init__(
        self,
        load: Callable[[], Settings],
        settings: Settings,
        rooms: wiring.Stages,
        switches: Switches | None,
        alerts: Alerts,
        clock: Clock,
        pool: WorkerPool | None = None,
    ) -> None:
        self._load = load
        self._settings = settings
        self._rooms = rooms
        self._switches = switches
        self._alerts = alerts
        self._clock = clock
        self._pool = pool
        self._once_secret = frozenset(settings.secrets())

    async def follow(self, hangup: asyncio.Event, wakeups: Wakeups, notify: Notifier) -> None:
        """Read them at each SIGHUP; however many come meanwhile, once more after the last."""
        while True:
            await hangup.wait()
            hangup.clear()
            notify.reloading("reading the settings again")
            if await self.run():
                await self.load_hook()
            wakeups.wake("submit")
            notify.ready()  # the next status line follows within seconds

    async def run(self) -> bool:
        """Returns whether the new settings hold. One line in the log says so, or why not."""
        try:
            wanted = self._load()
            changed = set(differences(self._settings, wanted))
            await self._take(adopt(self._settings, wanted), changed & RELOADABLE)
        except FixConfiguration as wrong:
            more = f" (and {len(wrong.problems) - 1} problems more, see `watcher check`)" * (len(wrong.problems) > 1)
            logger.error("the settings were not re-read and the old ones hold: {}{}", wrong.problems[0], more)
            return False
        except Exception as trouble:  # noqa: BLE001 - whatever it is, the daemon goes on as it was
            logger.error("the settings were not re-read and the old ones hold: {}", trouble or type(trouble).__name__)
            return False
        waiting = changed - RELOADABLE
        logger.info(
            "the settings were re-read: {}{}",
            f"{_names(changed & RELOADABLE)} changed" if changed & RELOADABLE else "nothing to change",
            f"; {_names(waiting)} wait for the next start" if waiting else "",
        )
        return True

    async def load_hook(self) -> bool:
        """Have the hook's code read again. Returns whether it could be; if not, the old code goes on answering."""
        if self._pool is None:
            return True
        try:
            before, now = await self._pool.reload()
        except (FixConfiguration, TryLater) as wrong:
            logger.error("the hook was not reloaded and the old code ({}) goes on: {}", self._pool.version, wrong)
            return False
        if before == now:
            logger.info("the hook was reloaded; its code is the same: {}", now)
        else:
            logger.info("the hook was reloaded: {} is now {}", before, now)
        return True

    async def _take(self, settings: Settings, changed: set[Key]) -> None:
        """Everything that can fail comes first."""
        fresh: list[tuple[Switch, Client | None]] = []
        try:
            if self._switches is not None and changed & _CLIENT:
                fresh.append((self._switches.main, wiring.client(settings, self._clock)))
            if self._switches is not None and changed & _DIRECT:
                fresh.append((self._switches.direct, wiring.direct_client(settings, self._clock)))
            if changed & _ALERTS:
                self._alerts.follow(settings)
        except BaseException:
            for _, client in fresh:
                if client is not None:
                    await client.aclose()
            raise
        for switch, client in fresh:
            await switch.replace(client)
        if self._rooms.submit is not None and self._rooms.router is not None:
            self._rooms.submit.follow(wiring.submit_plan(settings), self._rooms.router(settings))
        if self._rooms.respond is not None:
            self._rooms.respond.follow(wiring.respond_plan(settings))
        self._once_secret |= frozenset(settings.secrets())  # an old password may still come back in an old answer
        log.set_up(os.environ.get("WATCHER_LOG", settings.log.level), settings.log.format, self._once_secret)
        self._settings = settings


def differences(old: Settings, new: Settings) -> Iterator[Key]:
    """The keys that have another value."""
    for section, name in FIELDS:
        if _value(old, (section, name)) != _value(new, (section, name)):
            yield section, name


def adopt(old: Settings, new: Settings) -> Settings:
    """The old settings with what can be taken over of the new ones.

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
    return ", ".join(sorted(".".join(key) for key in keys))
