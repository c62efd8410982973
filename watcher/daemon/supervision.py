"""Supervision of the running stages: the watchdog, the first stage that fails, the drain."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from loguru import logger

from watcher.clock import Clock
from watcher.daemon.announcer import Announcement
from watcher.daemon.wiring import Stages
from watcher.errors import TryLater
from watcher.health.monitor import Monitor
from watcher.settings.model import Chain
from watcher.stage import StageLoop

_DRAIN_S = 25.0
_STEP_S = 30.0
_LOOK_EVERY_S = 5.0
_REQUESTS_PER_NODE = 4


def stuck_after_s(chain: Chain) -> float:
    """Return the seconds after which a step counts as stuck: more than a few requests to each node take."""
    return _STEP_S + _REQUESTS_PER_NODE * chain.request_timeout_s * len(chain.http_urls)


def pinger(loops: Sequence[StageLoop], clock: Clock, stuck_s: float, announcement: Announcement) -> Callable[[], None]:
    """Return a function that pings the service manager's watchdog if every loop came round within `stuck_s`."""

    def ping() -> None:
        now_s = clock.monotonic_s()
        if all(now_s - loop.beat_s < stuck_s for loop in loops):
            announcement.watchdog()

    return ping


async def watch_progress(monitor: Monitor, stopping: asyncio.Event) -> None:
    """Return when `stopping` is set. Raises TryLater once a stage makes no progress, so that the AVS starts again."""
    while not stopping.is_set():
        if (stuck := monitor.stuck) is not None:
            raise TryLater(stuck)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY_S):
                await stopping.wait()


async def first_to_end(working: Sequence[asyncio.Task[None]]) -> None:
    """Return when all have ended; raise as soon as one raises."""
    done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()


async def drain(
    stages: Stages, working: Sequence[asyncio.Task[None]], resign: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Await requests and runs of the hook that are under way, for 25 s at most. The stages have stopped claiming.

    `resign` gives the lead back, as soon as no stage of the leader runs any more.
    """
    try:
        async with asyncio.timeout(_DRAIN_S):
            await asyncio.gather(*working, return_exceptions=True)
            if resign is not None:
                await resign()
            for stage in (stages.respond, stages.submit):
                if stage is not None:
                    await stage.drain()
    except TimeoutError:
        logger.warning("daemon.cut_off: some requests did not come back in time; the chain decides on them")
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
