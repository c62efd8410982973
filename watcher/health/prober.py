"""The prober of the operator's APIs, for the times when nothing is sent: is the API there, does it accept us?

Invariant: an API that gets requests is not probed, and a probe has no effect.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from watcher.clock import Clock
from watcher.health.observers import Observer
from watcher.operator.probe import Probe

# A TCP connection, which costs the API nothing; then requests: to an API that refused us, and to one that is idle.
PROBE_EVERY_S = 10.0
_PROBE_REFUSED_S = 20.0
_PROBE_IDLE_S = 300.0


class Api(Protocol):
    """One of the operator's APIs. Both methods return None when it is not configured."""

    async def tcp_probe(self) -> Probe | None:
        """Try a connection."""

    async def probe(self) -> Probe | None:
        """Send a request without effect: does the API work and accept our credentials?"""


class Prober:
    """The prober of the operator's APIs after a time of silence."""

    def __init__(
        self,
        observer: Observer,
        clock: Clock,
        apis: Mapping[str, Api] | None = None,
        on_back: Callable[[], None] = lambda: None,
    ) -> None:
        """Keep the APIs to probe.

        Args:
            observer: the state of each API, by name.
            clock: paces the probes.
            apis: the operator's APIs by the observer's names; none where the watcher only observes.
            on_back: called when an API that was away, or refused us, is back.
        """
        self._observer = observer
        self._clock = clock
        self._apis = apis or {}
        self._on_back = on_back

    @property
    def due(self) -> bool:
        """True if an API has been idle for long enough."""
        return any(self._idle_s(name) > PROBE_EVERY_S for name in self._apis)

    async def probe_all(self) -> None:
        """Probe each API that has been idle for long enough."""
        await asyncio.gather(*(self._probe(name, api) for name, api in self._apis.items()))

    async def _probe(self, name: str, api: Api) -> None:
        seen, idle_s = self._observer.seen_of(name)[0], self._idle_s(name)
        if idle_s <= (_PROBE_REFUSED_S if seen.refuses else PROBE_EVERY_S):
            return
        probe = None if seen.refuses else await api.tcp_probe()
        if seen.refuses or (probe is not None and probe.ok and (seen.failures or idle_s > _PROBE_IDLE_S)):
            probe = await api.probe()
        elif probe is not None and probe.ok:
            return  # the API is there, which is no news
        if probe is None:
            self._observer.remove(name)
            return
        self._observer.probed(probe, name)
        if probe.ok and (seen.refuses or seen.failures):
            self._on_back()

    def _idle_s(self, name: str) -> float:
        return self._clock.monotonic_s() - self._observer.seen_of(name)[1]


def next_probe_s(observer: Observer, names: Iterable[str], clock: Clock) -> float | None:
    """Return the seconds until one of the APIs that refuse us or fail is probed, None where none does.

    Args:
        observer: the state of each API.
        names: the names of the APIs.
        clock: the clock of the observer.
    """
    waits_s = []
    for name in names:
        seen, at_s = observer.seen_of(name)
        if seen.refuses or seen.failures:
            pause_s = _PROBE_REFUSED_S if seen.refuses else PROBE_EVERY_S
            waits_s.append(max(0.0, at_s + pause_s - clock.monotonic_s()))
    return min(waits_s, default=None)
