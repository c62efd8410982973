"""The hook of a daemon and its shadow: loaded at the start, loaded anew or replaced by a reload."""

import os
from contextlib import AsyncExitStack
from pathlib import Path

from loguru import logger

from watcher.chain.source import Source
from watcher.daemon import parts
from watcher.daemon.shadowing import Shadowing
from watcher.errors import FixConfiguration, TryLater
from watcher.health.observers import Observer
from watcher.hook.room import Room
from watcher.hook.switch import HookSwitch
from watcher.settings.hook import Hook
from watcher.settings.model import Settings
from watcher.task import Later, Response, Skip, Task

# The keys of [hook] that make another runner.
_IDENTITY = ("target", "app_dir", "run_twice")


class Hooks:
    """The hook that answers, and the shadow beside it; `load` comes first."""

    def __init__(self, settings: Settings, config: Path | None, room: Room | None = None) -> None:
        """Take the settings.

        Args:
            settings: the sections hook and ledger are read.
            config: the configuration file, which the hook must not read.
            room: that of all hooks of the process; None: without a limit.
        """
        self._room = room
        self._section = settings.hook
        self._hidden = parts.hidden_paths(settings.ledger, config, os.environ)
        self._switch: HookSwitch | None = None
        self._observer: Observer | None = None
        self._shadowing: Shadowing | None = None

    async def load(self, stack: AsyncExitStack, observer: Observer) -> None:
        """Start the worker processes; `stack` ends them, `observer` gets the outcome.

        Raises:
            FixConfiguration: the hook is wrong.
            TryLater: the hook cannot be loaded for a reason that may pass.
        """
        self._observer = observer
        try:
            switch = HookSwitch(parts.hook_runner(self._section, self._hidden, room=self._room))
            self._switch = await stack.enter_async_context(switch)
        except TryLater as error:
            observer.hook_missing(str(error))
            raise
        observer.hook_loaded(switch.version)
        logger.info("hook.loaded: the hook is loaded", version=switch.version)
        self._warn_if_exposed()

    async def shadow(self, stack: AsyncExitStack, source: Source, observer: Observer) -> None:
        """Start the shadow, if the settings name one; `stack` ends it, `observer` gets its news."""
        self._shadowing = await stack.enter_async_context(Shadowing(source, self._hidden, observer.shadow))
        await self._shadowing.follow(self._section)

    async def run(self, task: Task) -> Response | Skip | Later:
        """Return the hook's answer to one task. Raises as `Runner.run` does."""
        return await self._loaded.run(task)

    async def changed_files(self) -> str:
        """Return the names of source files that differ from the loaded code; "" if none do."""
        return "" if self._switch is None else await self._switch.changed_files()

    async def reload(self, section: Hook) -> bool:
        """Load the code of the hook and the shadow that [hook] names. Return False if the old code goes on answering.

        Another target or folder replaces the hook: running tasks end on the old one, every later task goes to the new.
        If that cannot be loaded, the shadow stays, too: of a promotion nothing is done by halves.
        """
        old = self._loaded.version
        try:
            if any(getattr(section, key) != getattr(self._section, key) for key in _IDENTITY):
                runner = parts.hook_runner(section, self._hidden, room=self._room)
                before, now = await self._loaded.replace(runner)
                self._warn_if_exposed()
            else:
                before, now = await self._loaded.reload(parts.value_types(section))
        except (FixConfiguration, TryLater) as error:
            logger.error("hook.reload_failed: the old code of the hook stays", version=old, reason=str(error))
            return False
        self._section = section
        if self._observer is not None:
            self._observer.hook_named(now)
        if self._shadowing is not None:
            await self._shadowing.follow(section)
        if before == now:
            logger.info("hook.reloaded: the code of the hook is the same", version=now)
        else:
            logger.info("hook.reloaded: the hook has new code", before=before, version=now)
        return True

    @property
    def _loaded(self) -> HookSwitch:
        assert self._switch is not None, "`load` comes first"
        return self._switch

    def _warn_if_exposed(self) -> None:
        if self._loaded.exposed:
            logger.warning(
                "hook.exposed: the hook can read credentials, configuration and ledger", reason=self._loaded.exposed
            )
