"""One AVS kept running: a run that fails is reported and repeated, later each time, and costs no other AVS anything."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext, suppress

from loguru import logger

from watcher.backoff import doubled_s
from watcher.daemon.announcer import Announcement, Phase
from watcher.daemon.avs_run import AvsRun
from watcher.errors import FixConfiguration, Halt, TryLater, WatcherError
from watcher.settings.avs import Avs
from watcher.settings.model import Settings

_PAUSE_FIRST_S = 1.0
_PAUSE_MAX_S = 300.0
# After a run of this length the pauses begin anew.
_STEADY_S = 60.0

MakeRun = Callable[[Settings, Announcement, Callable[[], Settings]], AvsRun]


class AvsSupervisor:
    """The runs of one AVS, one after the other."""

    def __init__(self, avs: Avs, make_run: MakeRun, announcement: Announcement, on_failure: Callable[[], bool]) -> None:
        """Prepare the first run.

        Args:
            avs: the AVS.
            make_run: makes a run from settings, an announcement, and what loads the settings again.
            announcement: what is known of the AVS.
            on_failure: called when a run has failed; returns True if the whole process ends by it.
        """
        self.avs = avs
        self.error: Exception | None = None  # why it does not run now
        self.announcement = announcement
        self._good = avs.settings  # the last usable ones
        self._make_run = make_run
        self._on_failure = on_failure
        self._run: AvsRun | None = None
        self._stopping = asyncio.Event()
        self._retry_now = asyncio.Event()
        self._failures = 0

    async def run(self) -> None:
        """Run until `stop`, or until a run has ended without a stop. Raises nothing: errors are kept in `error`."""
        loop = asyncio.get_running_loop()
        with logger.contextualize(avs=self.avs.name) if self.avs.name else nullcontext():
            while not self._stopping.is_set():
                began_s = loop.time()
                try:
                    await self._run_once()
                except Exception as error:  # noqa: BLE001 - whatever it is, the other AVSs go on
                    if loop.time() - began_s >= _STEADY_S:
                        self._failures = 0
                    if self._failed(error):
                        return
                else:
                    break
                await self._rest()
            self.announcement.ended()

    def stop(self) -> None:
        """Stop the run that is under way, and begin no other."""
        self._stopping.set()
        self._retry_now.set()
        if self._run is not None:
            self._run.stop()

    def reload(self, avs: Avs) -> None:
        """Take over new settings: in the run that is under way, or with a new one, at once.

        A run that is under way goes on with the old settings where the new ones are wrong.
        """
        if self._run is None or avs.settings is not None:
            self._good = avs.settings
        self.avs = avs
        self._failures = 0
        if self._run is not None:
            self._run.reload()
        self._retry_now.set()

    @property
    def is_running(self) -> bool:
        return self.announcement.phase is Phase.RUNNING

    @property
    def is_over(self) -> bool:
        return self.announcement.phase is Phase.ENDED

    async def _run_once(self) -> None:
        self._retry_now.clear()
        self.announcement.starting()
        try:
            settings = self._good or self.avs.usable()
            self._run = self._make_run(settings, self.announcement, lambda: self.avs.usable())
            self.error = None
            await self._run.run(is_first_try=not self._failures)
        finally:
            self._run = None

    def _failed(self, error: Exception) -> bool:
        """Keep an error and report it. Return True if the process ends."""
        self.error = error
        self._failures += 1
        reason = str(error).partition("\n")[0] or type(error).__name__
        self.announcement.failed(reason)
        if self._on_failure():
            return True  # whoever ends the process reports the error
        if isinstance(error, Halt):
            logger.error("avs.halted: the AVS has stopped for good; look into it, then restart", reason=reason)
        elif isinstance(error, FixConfiguration):
            for problem in error.problems:
                logger.error("avs.failed: the AVS does not run; correct its settings and reload", reason=problem)
        elif isinstance(error, WatcherError):
            logger.error("avs.failed: the AVS does not run and is tried again", reason=reason, retry_s=self._pause_s)
        else:
            logger.opt(exception=error).error("avs.bug: the AVS ended unexpectedly and is started again; report it")
        return False

    @property
    def _pause_s(self) -> float:
        return doubled_s(self._failures, _PAUSE_FIRST_S, _PAUSE_MAX_S)

    async def _rest(self) -> None:
        """Wait until the next try: a reload, a stop, or a pause. Settings that are wrong wait for a reload."""
        is_final = isinstance(self.error, Halt)
        is_unread = self._good is None
        with suppress(TimeoutError):
            async with asyncio.timeout(None if is_final or is_unread else self._pause_s):
                await (self._stopping if is_final else self._retry_now).wait()


def end_of(supervisors: list[AvsSupervisor]) -> Exception:
    """Return the error that the process ends with, when none of these AVSs can run.

    One that may pass comes first, so that the service manager tries again; else that of a broken promise of the chain.
    """
    failed = [each for each in supervisors if each.error is not None]
    errors = [each.error for each in failed if each.error is not None]
    if len(supervisors) == 1:
        return errors[0]
    lines = [
        f"{each.avs.name}: {line}"
        for each in failed
        for line in (each.error.problems if isinstance(each.error, FixConfiguration) else [str(each.error)])
    ]
    if not all(isinstance(error, FixConfiguration | Halt) for error in errors):
        return TryLater("no AVS can run: " + "; ".join(lines))
    return Halt("\n".join(lines)) if all(isinstance(error, Halt) for error in errors) else FixConfiguration(*lines)
