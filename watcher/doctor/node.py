"""Check of the nodes: reachable, of the right chain, with a final block, enough history and a plausible time."""

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
from watcher.doctor.finding import MISCONFIGURED, UNAVAILABLE, Notes
from watcher.errors import RetryElsewhere, WatcherError
from watcher.settings.model import Chain
from watcher.task import Header

_SOFTWARE_CHARS = 40
_AHEAD_LIMIT_S = 60
_QUIET_BLOCKS = 10
# A chain with a block every second may still pause for a while.
_QUIET_MIN_S = 120.0
_SPAN_BLOCKS = 100
# Their blocks come on demand, and a person sets their time.
_MADE_FOR_TESTS = ("anvil", "hardhat")


async def check_endpoints(nodes: NodePool, notes: Notes) -> Header | None:
    """Add findings on every endpoint, so that a dead spare is seen before it is needed.

    Return the head, None if no node answers.
    """
    head, *heads = await asyncio.gather(_head(nodes), *(_head(node) for node in nodes.nodes))
    one_serves = any(isinstance(reply, Header) for reply in heads)
    for node, reply in zip(nodes.nodes, heads, strict=True):
        if isinstance(reply, Header):
            software = await _software(node)
            notes.ok("endpoint", f"{node.name} is at block {reply.number}{software and ' with ' + software}")
            await _batches(node, notes)
        elif isinstance(reply, WrongChain):
            message = f"chain.rpc_urls: {reply}; correct chain.chain_id, or name a node of that chain"
            notes.wrong("chain id", message, MISCONFIGURED)
        elif one_serves:
            notes.warn("endpoint", f"{reply}; others serve meanwhile: repair it, or remove it from chain.rpc_urls")
        else:
            code = MISCONFIGURED if isinstance(reply, ShutOut) else UNAVAILABLE
            notes.wrong("endpoint", f"{reply}; start the node, or correct chain.rpc_urls", code)
    return head if isinstance(head, Header) else None


async def _head(node: Node | NodePool) -> Header | WatcherError:
    try:
        return await node.head()
    except WatcherError as error:
        return error


async def _batches(node: Node, notes: Notes) -> None:
    """Add a finding where few calls fit into a request: that works, and costs time and requests."""
    try:
        room = await node.batch_room()
    except RetryElsewhere:
        return
    if room == 1:
        message = f"{node.name} takes no batches of calls: each call is a request of its own, which takes longer"
        notes.warn("batches", f"{message}; behind a load balancer different nodes may answer them, so name another one")
    elif room < MOST_CALLS:
        notes.ok("batches", f"{node.name} takes {room} calls in a batch; longer questions are asked in parts")


async def _software(node: Node) -> str:
    try:
        return (await node.client_version())[:_SOFTWARE_CHARS]
    except RetryElsewhere:
        return ""


async def check_subscriptions(subscriptions: Sequence[Subscription], notes: Notes) -> None:
    """Add a finding on each WebSocket: yellow at most, as the chain is polled without it."""
    reasons = await asyncio.gather(*(subscription.trial() for subscription in subscriptions))
    for subscription, reason in zip(subscriptions, reasons, strict=True):
        if reason is None:
            notes.ok("wake-up", f"{subscription.name} takes the subscriptions")
        else:
            message = f"chain.rpc_urls: {subscription.name}: {reason}; new tasks are seen later, at the next poll"
            notes.warn("wake-up", f"{message}; repair it, or remove it")


async def check_numbering(chain: Chain, nodes: NodePool, clock: Clock, notes: Notes) -> Numbering:
    """Add a finding on whose blocks contracts count, and return the numbering.

    Raises:
        FixConfiguration: it cannot be known.
        RetryElsewhere: no node answers.
    """
    numbering = await settle(nodes, clock, chain.contract_blocks)
    blocks = "the parent chain's blocks (l1BlockNumber)" if numbering.l1_blocks else "the chain's own blocks"
    message = f"contracts count {blocks}, deadlines are in those"
    notes.ok(
        "block numbers", message if numbering.proved else f"{message}; assumed, as no node runs the call to prove it"
    )
    return numbering


async def check_history(
    chain: Chain, task_manager: bytes, start_block: int | str, nodes: NodePool, head: Header, notes: Notes
) -> None:
    """Add findings on finality, and on logs and state since the first block to read.

    Args:
        chain: the section [chain].
        task_manager: the contract's address, 20 bytes.
        start_block: the first block to read, or "latest".
        nodes: the endpoints.
        head: the head.
        notes: takes the findings.

    Raises:
        RetryElsewhere: no node answers.
    """
    await _finality(chain.finality, nodes, head, notes)
    if not isinstance(start_block, int) or start_block == 0:
        first = "from the first block" if start_block == 0 else "from the head at the first start"
        notes.ok("history", f"reads {first}")
    elif start_block > head.number:
        notes.warn(
            "history",
            f"task_manager.start_block: {start_block} is still to come (the head is {head.number}); nothing until then",
        )
    else:
        await _depth(task_manager, start_block, nodes, notes)


async def _finality(finality: int | str, nodes: NodePool, head: Header, notes: Notes) -> None:
    if finality == 0:
        message = "chain.finality: with 0 the head counts as final, and a reorg of one block takes back what was called"
        notes.warn("finality", f"{message} final; set how deep a reorg can be on this chain")
        return
    if isinstance(finality, int):
        notes.ok("finality", f"a block is final once {finality} blocks follow it")
        return
    final = await nodes.header(finality)
    if final is None:
        notes.warn("finality", f'chain.finality: the node knows no "{finality}" block; set a depth in blocks instead')
    else:
        behind = max(0, head.number - final.number)
        notes.ok("finality", f"the {finality} block is {final.number}, {behind} behind the head")


async def _depth(address: bytes, start_block: int, nodes: NodePool, notes: Notes) -> None:
    """Check for logs from the first block on, and for the state before it, which has the index of the first task."""
    reasons = await asyncio.gather(*(_no_logs(node, address, start_block) for node in nodes.nodes))
    if all(reasons):
        message = f"task_manager.start_block: no node gives the logs of block {start_block}"
        advice = "name a node that keeps them, or begin later"
        notes.wrong("history", f"{message} ({'; '.join(map(str, reasons))}); {advice}", UNAVAILABLE)
        return
    keeps = await asyncio.gather(*(_keeps_state(node, address, start_block - 1) for node in nodes.nodes))
    if any(keeps):
        lacking = [node.name for node, kept in zip(nodes.nodes, keeps, strict=True) if not kept]
        exception = f" (not at {', '.join(lacking)})" if lacking else ""
        notes.ok("history", f"the logs of block {start_block} and the state before it are available{exception}")
        return
    notes.warn(
        "history",
        f"no node keeps the state before task_manager.start_block {start_block}: the first index is searched in the "
        "logs instead, which takes longer; an archive node in chain.rpc_urls would help",
    )


async def _no_logs(node: Node, address: bytes, block: int) -> str | None:
    """Return the reason why this node does not give the logs of a block, None if it does."""
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


async def check_clock(nodes: NodePool, head: Header, clock: Clock, notes: Notes) -> None:
    """Add a finding: is this machine's clock plausible against the newest block's time?"""
    past = await nodes.header(max(0, head.number - _SPAN_BLOCKS))
    span = 0 if past is None else head.number - past.number
    block_time_s = (head.timestamp_s - past.timestamp_s) / span if past and span else 0.0
    age_s = clock.now_ms() // 1000 - head.timestamp_s
    software = await nodes.side.client_version()
    if software.lower().startswith(_MADE_FOR_TESTS):
        notes.ok("clock", f"not compared: {software.partition('/')[0]} is made for tests, and keeps a time of its own")
    elif reason := clock_doubt(age_s, block_time_s):
        notes.warn("clock", reason)
    else:
        notes.ok("clock", f"the newest block is {age_s} s old, one comes every {block_time_s:.3g} s")


def clock_doubt(age_s: int, block_time_s: float) -> str | None:
    """Return what is odd about the age of the newest block, None if nothing is."""
    if age_s < -_AHEAD_LIMIT_S:
        return f"the newest block is {-age_s} s in the future: this machine's clock is behind; set it (NTP)"
    if age_s > max(_QUIET_MIN_S, _QUIET_BLOCKS * block_time_s):
        return (
            f"the newest block is {age_s} s old, although one comes every {block_time_s:.3g} s: the node is behind or"
            " the chain stands still, or this machine's clock is ahead; compare with a block explorer and with NTP"
        )
    return None
