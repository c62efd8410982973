"""One look at the chain: the questions of a poll and of the stages behind it, in one request to each node.

The questions stay the same, each with its checks; their replies are there already. Invariants: a reply of a look
counts for half a second, and no longer than until the next look; a null, an error, and a block that changed within the
request are no replies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from watcher.chain.rpc import calls as rpc_calls
from watcher.chain.rpc.calls import Call, Emitters, Topics
from watcher.chain.rpc.errors import RpcError
from watcher.clock import Clock
from watcher.errors import RetryElsewhere
from watcher.task import Header

if TYPE_CHECKING:
    from watcher.chain.rpc.node import Node
    from watcher.chain.rpc.nodes import NodePool

# As old as a head may be for the stages that work on it at the same time. Blocks of fast chains come as often.
KEPT_S = 0.5
# After a look that a node refuses, its questions travel one by one for so long.
_REST_S = 60.0
# A gap of more blocks is read page by page.
_SPAN_BLOCKS = 16
LATEST = rpc_calls.block("latest")


@dataclass(frozen=True, slots=True)
class Pushed:
    """A block that a subscription names. A hint: nothing is read from it.

    `concerns`: it may have logs of ours, by its bloom filter or by a pushed log. `bloom`: the filter of a pushed
    header, for those that share the subscription; 0 if there is none.
    """

    number: int
    hash: bytes
    concerns: bool = field(default=False, compare=False)
    bloom: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a look: the logs above block `after`, the last one that was read.

    `final` is the tag of the final block, None where finality is a depth. `final_behind` are the blocks from the newest
    block to the final one, where that was the same for the last blocks: the final block is then asked for by its
    height, too, which shows that the node holds it, and behind it the newest one again: the chain did not move between
    the two. `views` are calls of the contract's views.
    """

    after: int
    emitters: Emitters
    topics0: Sequence[bytes]
    queries: Sequence[Topics] = ()
    final: str | None = None
    final_behind: int | None = None
    views: Sequence[Call] = ()

    def calls(self, newest: int, *, logs: bool = True) -> list[Call]:
        """Return the calls of a poll that finds block `newest`, in the order in which `Node.page` needs them.

        Without `logs` they are those that head and finality need of every node.
        """
        final = [] if self.final is None else [rpc_calls.block(self.final)]
        if final and self.final_behind is not None and newest >= self.final_behind:
            final += [rpc_calls.block(newest - self.final_behind), rpc_calls.block(newest)]
        if not logs:
            return [rpc_calls.block(newest), *final]
        questions = [
            rpc_calls.logs(self.emitters, topics, self.after + 1, newest)
            for topics in self.queries or ([self.topics0],)
        ]
        blocks = rpc_calls.block(newest), rpc_calls.block(self.after)
        return [blocks[0], *questions, *blocks, *final, *self.views]


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


async def prefetch(nodes: "NodePool", subject: Subject, pushed: int | None) -> Header:
    """Return the head of all nodes, and have each node's replies to the questions of a poll ready.

    Args:
        nodes: the endpoints.
        subject: what the poll reads.
        pushed: a block that the chain is said to have, None without such a hint. With a true hint one request to each
            node does, else two.

    Raises RetryElsewhere and StaleNode as `NodePool.head`.
    """

    async def put(node: "Node") -> None:
        newest = pushed
        if newest is None:
            newest = (await node.head(anew=True)).number
        if subject.after < newest <= subject.after + _SPAN_BLOCKS:
            # One node reads the logs. If it cannot, the next one is asked for the page in a request of its own.
            calls = subject.calls(newest, logs=node is nodes.nodes[0])
            await node.prefetch(calls, anew=pushed is not None)

    await nodes.answers(put)
    return await nodes.head()


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
