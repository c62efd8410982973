"""One look at the chain: the questions of a poll and of the stages behind it, in one request to each node."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from watcher.chain.rpc import calls as rpc_calls
from watcher.chain.rpc.calls import Call, Emitters, Topics
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.task import Header

# A gap of more blocks is read page by page.
_SPAN_BLOCKS = 16


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


async def prefetch(nodes: NodePool, subject: Subject, pushed: int | None) -> Header:
    """Return the head of all nodes, and have each node's replies to the questions of a poll ready.

    Args:
        nodes: the endpoints.
        subject: what the poll reads.
        pushed: a block that the chain is said to have, None without such a hint. With a true hint one request to each
            node does, else two.

    Raises RetryElsewhere and StaleNode as `NodePool.head`.
    """

    async def put(node: Node) -> None:
        newest = pushed
        if newest is None:
            newest = (await node.head(anew=True)).number
        if subject.after < newest <= subject.after + _SPAN_BLOCKS:
            # One node reads the logs. If it cannot, the next one is asked for the page in a request of its own.
            calls = subject.calls(newest, logs=node is nodes.nodes[0])
            await node.prefetch(calls, anew=pushed is not None)

    await nodes.answers(put)
    return await nodes.head()
