"""Looks after the operator's APIs where nothing is sent to them: is anybody there, and do they take our credentials?

Invariant: while requests go out nothing more is asked of an API, and what is asked brings nothing about.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from watcher.clock import Clock
from watcher.health.observers import Observer
from watcher.operator.probe import Probe

# How often is looked whether the API's door opens, whether one that refused us still does, and whether what is behind
# the door works. The first costs it nothing, the others are requests.
KNOCK_S = 10.0
_PROBE_REFUSED_S = 20.0
_PROBE_IDLE_S = 300.0


class Api(Protocol):
    """One of the operator's APIs. Both say None when it is not configured."""

    async def tcp_probe(self) -> Probe | None:
        """Whether anybody is there."""

    async def probe(self) -> Probe | None:
        """Whether it works and takes our credentials."""


class Prober:
    """Asks each of the operator's APIs for a sign of life after a time of silence."""

    def __init__(
        self,
        observer: Observer,
        clock: Clock,
        apis: Mapping[str, Api] | None = None,
        on_back: Callable[[], None] = lambda: None,
    ) -> None:
        """Keep the APIs to ask.

        Args:
            observer: what is known of each API, by name.
            clock: paces the probes.
            apis: the operator's APIs by the observer's names; none where the watcher only observes.
            on_back: called when an API that was away or refused us gives a sign of life.
        """
        self._observer = observer
        self._clock = clock
        self._apis = apis or {}
        self._on_back = on_back

    @property
    def due(self) -> bool:
        """Whether anything has not been heard of for long enough."""
        return any(self._idle_s(name) > KNOCK_S for name in self._apis)

    async def round(self) -> None:
        """Look at each once."""
        await asyncio.gather(*(self._look(name, api) for name, api in self._apis.items()))

    async def _look(self, name: str, api: Api) -> None:
        seen, idle_s = self._observer.seen_of(name)[0], self._idle_s(name)
        if idle_s <= (_PROBE_REFUSED_S if seen.refuses else KNOCK_S):
            return
        found = None if seen.refuses else await api.tcp_probe()
        if seen.refuses or (found is not None and found.ok and (seen.failures or idle_s > _PROBE_IDLE_S)):
            found = await api.probe()
        elif found is not None and found.ok:
            return  # somebody is there, which is no news
        if found is None:
            self._observer.gone(name)
            return
        self._observer.probed(found, name)
        if found.ok and (seen.refuses or seen.failures):
            self._on_back()

    def _idle_s(self, name: str) -> float:
        return self._clock.monotonic_s() - self._observer.seen_of(name)[1]
