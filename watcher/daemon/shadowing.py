"""The shadow of a daemon: started beside the stages, and started anew by each reload."""

import asyncio
from types import TracebackType
from typing import Self

from loguru import logger

from watcher.chain.source import Source
from watcher.daemon import parts, wiring
from watcher.errors import TryLater
from watcher.hook.shadow import Listener, Shadow
from watcher.ledger import shadow
from watcher.settings.hook import Hook


class Shadowing:
    """The task that runs the shadow, as an async context manager; leaving it stops the shadow."""

    def __init__(self, source: Source, hidden: tuple[str, ...], listener: Listener) -> None:
        """`hidden` are the paths that the shadow must not reach, `listener` gets its news."""
        self._source = source
        self._hidden = hidden
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def follow(self, section: Hook) -> None:
        """Run the shadow that [hook.shadow] names, with its present code; none without a target."""
        await self._stop()
        self._listener.shadow_unavailable("")
        ledger = self._source.ledger
        if not section.shadow.target:
            try:
                await ledger.write(shadow.leave, ledger.source_id)
            except TryLater as error:
                logger.info("shadow.not_left: the shadow's place in the ledger stays for now", reason=str(error))
            return
        own = Shadow(ledger, self._source.clock, lambda run: wiring.fitted(run, self._source.contract), self._listener)
        running = own.run(lambda: parts.shadow_runner(section, self._hidden))
        self._task = asyncio.create_task(running, name="shadow")
        self._task.add_done_callback(_report_end)

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None


def _report_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.opt(exception=error).error("shadow.ended: the shadow has ended; this is a bug, please report it")
