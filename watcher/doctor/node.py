"""The nodes: reachable, of the right chain, with a final block, and with as much history as the settings ask for."""

import asyncio
from collections.abc import Sequence

from watcher.chain.numbering import Numbering, settle
from watcher.chain.rpc.batch import MOST_CALLS
from watcher.chain.rpc.errors import ShutOut, WrongChain
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Unread
from watcher.chain.rpc.subscription import Subscription
from watcher.clock import Clock
from watcher.doctor.finding import MEND, UNAVAILABLE, Notes
from watcher.errors import RetryElsewhere, WatcherError
from watcher.settings.model import Settings
from watcher.task import Header


async def endpoints(nodes: NodePool, notes: Notes) -> Header | None:
    """Every endpoint by itself, so that a dead spare is seen before it is needed. The head, where one can be had."""
    best, *each = await asyncio.gather(_tried(nodes), *(_tried(node) for node in nodes.nodes))
    some_answer = any(isinstance(one, Header) for one in each)
    for node, found in zip(nodes.nodes, each, strict=True):
        if isinstance(found, Header):
            software = await _software(node)
            notes.ok("endpoint", f"{node.name} is at block {found.number}{software and ' with ' + software}")
            await _batches(node, notes)
        elif isinstance(found, WrongChain):
            words = f"chain.rpc_urls: {found}; correct chain.chain_id, or name a node of that chain"
            notes.wrong("chain id", words, MEND)
        elif some_answer:
            notes.warn("endpoint", f"{found}; others serve meanwhile: mend it, or take it out of chain.rpc_urls")
        else:
            code = MEND if isinstance(found, ShutOut) else UNAVAILABLE
            notes.wrong("endpoint", f"{found}; start the node, or correct chain.rpc_urls", code)
    return best if isinstance(best, Header) else None


async def _tried(asked: Node | NodePool) -> Header | WatcherError:
    try:
        return await asked.head()
    except WatcherError as error:
        return error


async def _batches(node: Node, notes: Notes) -> None:
    """Little fits into a request: it works, and costs time and requests."""
    try:
        room = await node.batch_room()
    except RetryElsewhere:
        return
    if room == 1:
        words = f"{node.name} takes no batches of calls: each call is a request of its own, which takes longer"
        notes.warn("batches", f"{words}; behind a load balancer different nodes may answer them, so name another one")
    elif room < MOST_CALLS:
        notes.ok("batches", f"{node.name} takes {room} calls in a batch; longer questions are asked in parts")


async def _software(node: Node) -> str:
    try:
        return (await node.client_version())[:40]
    except RetryElsewhere:
        return ""


async def wakes(each: Sequence[Subscription], notes: Notes) -> None:
    """The WebSocket of each: yellow at most, for without it the chain is asked every chain.poll_interval_s."""
    for one, trouble in zip(each, await asyncio.gather(*(one.trial() for one in each)), strict=True):
        if trouble is None:
            notes.ok("wake-up", f"{one.name} takes the subscriptions")
        else:
            words = f"chain.rpc_urls: {one.name}: {trouble}; new tasks are seen later, at the next poll"
            notes.warn("wake-up", f"{words}; mend it, or take it out")


async def numbering(settings: Settings, nodes: NodePool, clock: Clock, notes: Notes) -> Numbering:
    """Whose blocks contracts count. Raises FixConfiguration where that cannot be known."""
    found = await settle(nodes, clock, settings.chain.contract_blocks)
    whose = "the parent chain's blocks (l1BlockNumber)" if found.l1_blocks else "the chain's own blocks"
    words = f"contracts count {whose}, deadlines are in those"
    notes.ok(
        "block numbers", words if found.proved else f"{words}; supposed, for no node runs the call that would tell"
    )
    return found


async def history(settings: Settings, nodes: NodePool, head: Header, notes: Notes) -> None:
    """Is there a final block, and is what happened since the first block still to be had?"""
    await _finality(settings, nodes, head, notes)
    start_block = settings.task_manager.start_block
    if not isinstance(start_block, int) or start_block == 0:
        words = "from the first block" if start_block == 0 else "from the newest block, whichever that is at the start"
        notes.ok("history", f"reads {words}")
    elif start_block > head.number:
        words = (
            f"task_manager.start_block: {start_block} is still to come (the head is {head.number}); nothing until then"
        )
        notes.warn("history", words)
    else:
        await _depth(settings.task_manager.address_bytes, start_block, nodes, notes)


async def _finality(settings: Settings, nodes: NodePool, head: Header, notes: Notes) -> None:
    wanted = settings.chain.finality
    if wanted == 0:
        words = (
            "chain.finality: with 0 the head counts as final, and a reorg of one block takes back what was called final"
        )
        notes.warn("finality", f"{words}; set how deep a reorg can be on this chain")
        return
    if isinstance(wanted, int):
        notes.ok("finality", f"final is what {wanted} blocks lie upon")
        return
    final = await nodes.header(wanted)
    if final is None:
        notes.warn("finality", f'chain.finality: the node knows no "{wanted}" block; set a depth in blocks instead')
    else:
        notes.ok(
            "finality", f"the {wanted} block is {final.number}, {max(0, head.number - final.number)} behind the head"
        )


async def _depth(address: bytes, start_block: int, nodes: NodePool, notes: Notes) -> None:
    """Logs from the first block on; and the state just before it, for the index of the first task."""
    troubles = await asyncio.gather(*(_no_logs(node, address, start_block) for node in nodes.nodes))
    if all(troubles):
        words = (
            f"task_manager.start_block: no node gives the logs of block {start_block} ({'; '.join(map(str, troubles))})"
        )
        notes.wrong("history", f"{words}; name a node that keeps them, or begin later", UNAVAILABLE)
        return
    keeps = await asyncio.gather(*(_keeps_state(node, address, start_block - 1) for node in nodes.nodes))
    if any(keeps):
        lacking = [node.name for node, kept in zip(nodes.nodes, keeps, strict=True) if not kept]
        some = f" (not at {', '.join(lacking)})" if lacking else ""
        notes.ok("history", f"the logs of block {start_block} and the state before it are to be had{some}")
        return
    words = f"no node keeps the state before task_manager.start_block {start_block}: the first index is searched in the"
    notes.warn("history", f"{words} logs instead, which takes longer; an archive node in chain.rpc_urls would help")


async def _no_logs(node: Node, address: bytes, block: int) -> str | None:
    """Why this node does not give the logs of a block, None where it does."""
    try:
        await node.find(address, None, None, block, block)
    except RetryElsewhere as error:
        return str(error)
    return None


async def _keeps_state(node: Node, address: bytes, block: int) -> bool:
    try:
        at = await node.header(block)
        return at is not None and not isinstance((await node.views([b""], address, at))[0], Unread)
    except RetryElsewhere:
        return False
