"""The ground that the chain's stages stand on in a test: a devnet, relays before its node, a contract and a ledger."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.integration.node_rig import Relay, relaying
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.source import Source
from watcher.clock import Clock, SystemClock
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.ledger import schema
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Ledger, open_ledger


@dataclass(frozen=True)
class Ground:
    """Everything is real; `source` joins nodes, contract and ledger for the stages."""

    net: Devnet
    relays: list[Relay]
    nodes: NodePool
    contract: TaskManager
    ledger: Ledger
    source: Source


async def laid(
    stack: AsyncExitStack,
    folder: Path,
    *,
    window: int,
    relays: int = 1,
    quorum: int = 1,
    clock: Clock | None = None,
    body_limit_bytes: int = 1 << 24,
    prefetched_s: float = 0.0,
    **devnet: Any,
) -> Ground:
    """Start all of it in `folder`; `stack` ends it.

    Args:
        stack: closes ledger, nodes, relays and devnet, in this order.
        folder: holds the devnet's files and watcher.db.
        window: blocks that a task may be answered in.
        relays: how many endpoints the node has; each has a relay that a test can twist.
        quorum: how many endpoints a reading needs.
        clock: the machine's, unless given.
        body_limit_bytes: of one reply.
        prefetched_s: how long the stages share a look; not at all unless given, so that a test can change the chain.
        devnet: more DevnetOptions.
    """
    options = DevnetOptions(directory=folder / "net", mining="auto", window_blocks=window, persist=False, **devnet)
    net = await stack.enter_async_context(Devnet(options))
    opened = [await stack.enter_async_context(relaying(net.rpc_url)) for _ in range(relays)]
    clock = clock or SystemClock()
    pool = [
        Node(relay.url, net.chain_id, clock, body_limit_bytes=body_limit_bytes, prefetched_s=prefetched_s)
        for relay in opened
    ]
    nodes = NodePool(pool, clock, Random(1), quorum=quorum)
    stack.push_async_callback(nodes.close)
    address = bytes.fromhex(net.task_manager[2:])
    contract = TaskManager(nodes, address, convention("wizard"), 100)
    url = parse_url(f"sqlite:///{folder / 'watcher.db'}")
    schema.upgrade(url)
    ledger = await stack.enter_async_context(open_ledger(url, clock, net.chain_id, address, 1))
    return Ground(net, opened, nodes, contract, ledger, Source(nodes, contract, ledger, clock, window))
