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
    """`apis` are the operator's, by the witness's names; empty where the watcher only observes.

    `on_back` is called when one that was away or refused us gives a sign of life.
    """

    def __init__(self, observer: Observer, clock: Clock) -> None:
        self._observer = observer
        self._clock = clock
        self.apis: Mapping[str, Api] = {}
        self.on_back: list[Callable[[], None]] = []

    @property
    def due(self) -> bool:
        """Whether anything has not been heard of for long enough."""
        return any(self._idle_s(name) > KNOCK_S for name in self.apis)

    async def round(self) -> None:
        """Look at each once."""
        await asyncio.gather(*(self._look(name, api) for name, api in self.apis.items()))

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
            for listener in self.on_back:
                listener()

    def _idle_s(self, name: str) -> float:
        return self._clock.monotonic_s() - self._observer.seen_of(name)[1]
