"""The connections to nodes that several AVSs of one process share: by HTTP, and the wake-up over WebSocket.

Only connections are shared, with their limit. What is known of a node (its lags, its contradictions, the heads that
count) belongs to the pool of each AVS: it follows that ledger's own cursor.
"""

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from watcher.chain.rpc.bloom import Interest
from watcher.chain.rpc.poll import Pushed
from watcher.chain.rpc.transport import Transport, Url
from watcher.clock import Clock

if TYPE_CHECKING:
    from watcher.chain.rpc.subscription import Subscription

Wake = Callable[[Pushed | None], None]


class Connections:
    """The connections of one process."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._transports: dict[tuple[str, int], Transport] = {}
        self._heads: dict[tuple[str, int], _Heads] = {}

    def transport(self, url: str, body_limit_bytes: int) -> Transport:
        """Return the connections to an endpoint, with this limit on replies."""
        key = url, body_limit_bytes
        if key not in self._transports:
            self._transports[key] = Transport(Url(url), body_limit_bytes=body_limit_bytes, clock=self._clock)
        return self._transports[key]

    async def follow_heads(self, url: str, chain_id: int, interest: Interest, wake: Wake) -> None:
        """Call `wake` with each head that a ws(s) URL pushes, until cancelled. One socket serves all that follow.

        Each gets the hint whether a head concerns it by its own `interest`.
        """
        key = url, chain_id
        if key not in self._heads:
            self._heads[key] = _Heads(lambda pushed: self._subscription(url, chain_id, pushed))
        await self._heads[key].follow(interest, wake)

    async def close(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            await transport.close()

    def _subscription(self, url: str, chain_id: int, wake: Wake) -> "Subscription":
        from watcher.chain.rpc.subscription import Subscription  # late: websockets is for those who name such a URL

        return Subscription(url, chain_id, None, (), wake, self._clock, self._random)


class _Heads:
    """One subscription, and all that follow it."""

    def __init__(self, make: "Callable[[Wake], Subscription]") -> None:
        self._make = make
        self._followers: dict[Wake, Interest] = {}
        self._running: asyncio.Task[None] | None = None

    async def follow(self, interest: Interest, wake: Wake) -> None:
        self._followers[wake] = interest
        if self._running is None:
            # Without the context of this AVS: the log lines of the socket are of all.
            running = self._make(self._push).run()
            self._running = asyncio.create_task(running, name="heads", context=contextvars.Context())
        try:
            await asyncio.Event().wait()
        finally:
            del self._followers[wake]
            if not self._followers:
                self._running.cancel()
                self._running = None

    def _push(self, block: Pushed | None) -> None:
        for wake, interest in tuple(self._followers.items()):
            wake(None if block is None else replace(block, concerns=interest.may_be_in(block.bloom)))
