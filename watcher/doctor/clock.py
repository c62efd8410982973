"""This machine's clock against the newest block's."""

from watcher.chain.rpc.nodes import NodePool
from watcher.clock import Clock
from watcher.doctor.finding import Notes
from watcher.task import Header

_AHEAD_LIMIT_S = 60
_QUIET_BLOCKS = 10
# A chain whose blocks come every second may still pause for a while.
_QUIET_LEAST_S = 120.0
_SPAN_BLOCKS = 100
# They make blocks when they are told to, and their time is moved by hand.
_MADE_FOR_TESTS = ("anvil", "hardhat")


async def check(nodes: NodePool, head: Header, clock: Clock, notes: Notes) -> None:
    """One line: green, or yellow where the two do not go together."""
    past = await nodes.header(max(0, head.number - _SPAN_BLOCKS))
    span = 0 if past is None else head.number - past.number
    block_time_s = (head.timestamp_s - past.timestamp_s) / span if past and span else 0.0
    now_s = clock.now_ms() // 1000
    software = await nodes.side.client_version()
    if software.lower().startswith(_MADE_FOR_TESTS):
        notes.ok("clock", f"not compared: {software.partition('/')[0]} is made for tests, and keeps a time of its own")
    elif trouble := suspicion(now_s - head.timestamp_s, block_time_s):
        notes.warn("clock", trouble)
    else:
        notes.ok("clock", f"the newest block is {now_s - head.timestamp_s} s old, one comes every {block_time_s:.3g} s")


def suspicion(age_s: int, block_time_s: float) -> str | None:
    """What is odd about the age of the newest block, None where nothing is."""
    if age_s < -_AHEAD_LIMIT_S:
        return f"the newest block is {-age_s} s in the future: this machine's clock is behind; set it (NTP)"
    if age_s > max(_QUIET_LEAST_S, _QUIET_BLOCKS * block_time_s):
        return (
            f"the newest block is {age_s} s old, although one comes every {block_time_s:.3g} s: the node is behind or"
            " the chain stands still, or this machine's clock is ahead; compare with a block explorer and with NTP"
        )
    return None
