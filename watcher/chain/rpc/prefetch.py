"""The replies of one node to a look (`watcher.chain.rpc.poll`), kept for the questions that follow.

The questions stay the same, each with its checks; their replies are there already. Invariants: a reply of a look
counts for half a second, and no longer than until the next look; a null, an error, and a block that changed within the
request are no replies.
"""

from collections.abc import Sequence
from typing import Any

from watcher.chain.rpc import calls as rpc_calls
from watcher.chain.rpc.calls import Call
from watcher.chain.rpc.errors import RpcError
from watcher.clock import Clock
from watcher.errors import RetryElsewhere

# As old as a head may be for the stages that work on it at the same time. Blocks of fast chains come as often.
KEPT_S = 0.5
# After a look that a node refuses, its questions travel one by one for so long.
_REST_S = 60.0
LATEST = rpc_calls.block("latest")


class Replies:
    """The replies of one node to its last look, by call, for `kept_s` seconds."""

    def __init__(self, clock: Clock, kept_s: float = KEPT_S) -> None:
        self._clock = clock
        self._kept_s = kept_s
        self._by_call: dict[str, Any] = {}
        self._until_s = 0.0
        self._rests_until_s = 0.0

    @property
    def rests(self) -> bool:
        """True while the node gets no looks, because it refused one."""
        return self._clock.monotonic_s() < self._rests_until_s

    def refused(self) -> None:
        """Put no look to this node for a while."""
        self._rests_until_s = self._clock.monotonic_s() + _REST_S

    def forget(self) -> None:
        """Forget the last look."""
        self._by_call = {}

    def keep(self, calls: Sequence[Call], received: Sequence[Any]) -> None:
        """Keep the replies to `calls`, beside those of the same look."""
        now_s = self._clock.monotonic_s()
        if not self._by_call or now_s > self._until_s:
            self._by_call, self._until_s = {}, now_s + self._kept_s
        unusable: set[str] = set()
        fresh: dict[str, Any] = {}
        for call, reply in zip(calls, received, strict=True):
            key = repr(call)
            if reply is None or isinstance(reply, RpcError) or fresh.setdefault(key, reply) != reply:
                unusable.add(key)
        self._by_call |= {key: reply for key, reply in fresh.items() if key not in unusable}
        for key in unusable:
            self._by_call.pop(key, None)

    def to(self, calls: Sequence[Call]) -> list[Any] | None:
        """Return the reply to each call, None unless all are there and young enough."""
        if self._clock.monotonic_s() > self._until_s:
            return None
        replies: list[Any] = []
        for call in calls:
            key = repr(call)
            if key not in self._by_call:
                return None
            replies.append(self._by_call[key])
        return replies


async def try_prefetch(replies: Replies, ask: Any, calls: Sequence[Call], *, anew: bool) -> None:
    """Put a look to one node. Its refusal proves nothing: the questions follow one by one.

    Args:
        replies: those of the node.
        ask: puts calls to the node.
        calls: the calls of the look.
        anew: ask for the newest block, too, and forget the look before.
    """
    if anew:
        replies.forget()
        calls = [LATEST, *calls]
    if replies.rests:
        return
    try:
        replies.keep(calls, await ask(calls))
    except RetryElsewhere:
        replies.refused()
