"""The process of `watcher run`: signals, service manager, and the AVSs, each of which runs, fails and reloads alone.

Invariant: the process ends by a failure only if no AVS can run.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import SystemRandom

from loguru import logger

from watcher.chain.rpc.connections import Connections
from watcher.clock import SystemClock
from watcher.daemon.allocator import return_freed_memory
from watcher.daemon.announcer import Announcement, Announcer
from watcher.daemon.avs_run import AvsRun
from watcher.daemon.run_options import RunOptions
from watcher.daemon.shared import Shared
from watcher.daemon.supervisor import AvsSupervisor, end_of
from watcher.daemon.systemd import Notifier, watchdog_interval_s
from watcher.dashboard.avs_list import AvsList
from watcher.errors import FixConfiguration
from watcher.health.access import Access
from watcher.health.http import Web
from watcher.health.service import ended
from watcher.health.sites import Pages, Sites
from watcher.hook.room import Room
from watcher.redact import Redactor
from watcher.settings.avs import Avs
from watcher.settings.http import Http
from watcher.settings.model import Settings
from watcher.validation import is_loopback

# The connections of a pool for reading, and a little more.
_THREADS_EACH = 16
Load = Callable[[], Sequence[Avs]]


class Daemon:
    """One run of `watcher run`."""

    def __init__(self, avss: Sequence[Avs], options: RunOptions | None = None, load: Load | None = None) -> None:
        """Prepare a run; `run` starts it.

        Args:
            avss: the AVSs, one at least; some may be without usable settings.
            options: the options of the command.
            load: loads all settings again on SIGHUP; None: they never change.
        """
        self._options = options or RunOptions()
        self._load = load or (lambda: avss)
        self._notify = Notifier.from_environment()
        self._announcer = Announcer(self._notify)
        usable = [avs.settings for avs in avss if avs.settings is not None]
        redactor = Redactor([secret for settings in usable for secret in settings.secrets()])
        self._http = usable[0].http if usable else None
        access = _access(self._http)
        make_pages = partial(AvsList, access=access) if self._http is not None and self._http.dashboard else _no_pages
        sites = Sites(self._absent, make_pages, self._serve)
        connections = Connections(SystemClock(), SystemRandom())
        self._shared = Shared(redactor, sites, access, connections, _room(usable), several=len(avss) > 1)
        self._serving: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._hangup = asyncio.Event()
        self._hopeless = asyncio.Event()
        self._supervisors = [self._supervisor(avs) for avs in avss]

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT, or, with `until_idle`, until nothing is left to do.

        Raises:
            FixConfiguration: a setting is wrong (exit code 78).
            TryLater: another daemon holds the ledger, or its file was replaced (75).
            Halt: the chain broke a promise, such as a final block that changed (1).
        """
        return_freed_memory()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        if sys.stderr.isatty():  # SIGHUP then means that the terminal is gone
            loop.add_signal_handler(signal.SIGHUP, self._stop, signal.SIGHUP)
        else:
            loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        if len(self._supervisors) > 1:
            # Readings that hang in the database of one AVS must not take the threads of the others.
            loop.set_default_executor(ThreadPoolExecutor(_THREADS_EACH * len(self._supervisors)))
        helping = [asyncio.create_task(self._follow_hangups(), name="hangups")]
        if (every_s := watchdog_interval_s()) is not None:
            helping.append(asyncio.create_task(self._keep_alive(every_s), name="watchdog"))
        try:
            await self._run_all()
        finally:
            for task in helping:
                task.cancel()
            if self._serving is not None:
                self._serving.cancel()
                helping.append(self._serving)
            await asyncio.gather(*helping, return_exceptions=True)
            await self._shared.connections.close()

    async def _run_all(self) -> None:
        """Run every AVS until all have ended. Raises the error of the process once none can run."""
        running = [asyncio.create_task(each.run(), name=f"AVS {each.avs.name}") for each in self._supervisors]
        waiting = asyncio.create_task(self._hopeless.wait(), name="no AVS can run")
        every = asyncio.ensure_future(asyncio.gather(*running))
        try:
            await asyncio.wait((every, waiting), return_when=asyncio.FIRST_COMPLETED)
            if self._hopeless.is_set():
                raise end_of(self._supervisors)
            every.result()
        finally:
            for task in (every, waiting):
                task.cancel()
            await asyncio.gather(*running, waiting, return_exceptions=True)

    def _supervisor(self, avs: Avs) -> AvsSupervisor:
        return AvsSupervisor(avs, self._make_run, self._announcer.add(avs.name), self._is_hopeless)

    def _make_run(self, settings: Settings, announcement: Announcement, load: Callable[[], Settings]) -> AvsRun:
        return AvsRun(settings, self._options, self._shared, announcement, load)

    def _absent(self) -> dict[str, str]:
        """Return why AVSs do not run, by name."""
        every = (each.announcement for each in self._supervisors)
        return {each.name: missing for each in every if (missing := each.missing) is not None}

    def _serve(self) -> None:
        """Start the HTTP server, once the first AVS has something to show."""
        if self._serving is None and self._http is not None and self._http.address is not None:
            server = Web(self._http.address, self._shared.sites, SystemClock(), self._shared.access)
            self._serving = asyncio.create_task(server.run(), name="web")
            self._serving.add_done_callback(ended)

    def _is_hopeless(self) -> bool:
        """Return True, and end the process, if no AVS runs or starts any more and one has failed."""
        if all(each.error is not None or each.is_over for each in self._supervisors):
            self._hopeless.set()
        return self._hopeless.is_set()

    def _stop(self, number: int) -> None:
        logger.info("daemon.stopping: requests under way are finished first", signal=signal.Signals(number).name)
        self._announcer.stopping()
        for each in self._supervisors:
            each.stop()

    async def _follow_hangups(self) -> None:
        """Read the settings again at each SIGHUP; several that come during a reload make one more."""
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            self._reload()

    def _reload(self) -> None:
        try:
            avss = {avs.name: avs for avs in self._load()}
        except FixConfiguration as error:  # none could be read; each AVS says so
            avss = {each.avs.name: Avs(each.avs.name, None, tuple(error.problems)) for each in self._supervisors}
        known = {each.avs.name for each in self._supervisors}
        if avss.keys() ^ known:
            logger.warning(
                "settings.avs_changed: AVSs were added or removed; that counts at the next start",
                added=", ".join(sorted(avss.keys() - known)) or "none",
                removed=", ".join(sorted(known - avss.keys())) or "none",
            )
        for each in self._supervisors:
            if each.is_running:
                each.announcement.reloading()
        for each in self._supervisors:
            each.reload(avss.get(each.avs.name, each.avs))

    async def _keep_alive(self, every_s: float) -> None:
        while True:
            self._announcer.keep_alive()
            await asyncio.sleep(every_s)


def _room(every: Sequence[Settings]) -> Room | None:
    """Return the room of all hooks; None where no AVS names a limit."""
    limits = [settings.hook.process_limit for settings in every if settings.hook.process_limit]
    if not limits:
        return None
    hooks = [settings.hook for settings in every]
    return Room(min(limits), sum(hook.workers for hook in hooks), max(hook.timeout_s for hook in hooks))


def _access(http: Http | None) -> Access:
    """Return who may use the HTTP server. Without usable settings there is no server."""
    if http is None:
        return Access("", SystemClock(), is_local=True)
    token = "" if http.token is None else http.token.get_secret_value()
    is_local = http.address is None or is_loopback(http.address[0])
    protects_all = http.protect == "all"
    return Access(token, SystemClock(), is_local=is_local, protects_all=protects_all, public_origin=http.public_url)


def _no_pages(_sites: Sites) -> Pages | None:
    return None
