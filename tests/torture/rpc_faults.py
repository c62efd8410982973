"""What a node, or whatever stands between it and us, can do wrong: the kinds, the words they use, and the book of those
in force. `rpc_twists` says what each does to an answer, `push` what those of the WebSocket do."""

import random
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TextIO

from tests.torture.lines import write_line


class RpcFaultKind(StrEnum):
    # The chain as a replica sees it that lags `blocks` behind; as two replicas in turn, one of which lags.
    LAG = "lag"
    REPLICAS = "replicas"
    # Logs.
    LOGS_DROPPED = "logs_dropped"  # each with the chance `fraction`
    LOG_HIDDEN = "log_hidden"  # those of one task index, `index`, as long as the fault is in force
    LOGS_CUT = "logs_cut"  # the end of the list is missing
    LOGS_FORGED = "logs_forged"  # good ABI, never on the chain
    LOGS_FLOODED = "logs_flooded"  # hundreds that cannot be decoded, beside the true ones
    LOGS_WRONG_ADDRESS = "logs_wrong_address"
    LOGS_WRONG_TOPIC = "logs_wrong_topic"
    LOGS_OUT_OF_RANGE = "logs_out_of_range"
    LOGS_DOUBLED = "logs_doubled"
    # Refusals.
    RANGE_REFUSED = "range_refused"  # one of `RANGE_DIALECTS`
    RATE_LIMITED = "rate_limited"  # HTTP 429 with one of `RETRY_AFTER`
    RATE_LIMITED_RPC = "rate_limited_rpc"  # one of `RATE_DIALECTS`
    UNAVAILABLE = "unavailable"  # 5xx
    # Blocks and state.
    BLOCK_NULL = "block_null"
    BLOCK_WRONG_NUMBER = "block_wrong_number"
    BLOCK_WRONG_HASH = "block_wrong_hash"
    WRONG_CHAIN = "wrong_chain"
    STALE_CALL = "stale_call"  # a cached zero
    FAR_HEAD = "far_head"  # it names a newest block that it cannot show
    FORKED_NODE = "forked_node"  # it is a block ahead of all others, on a fork of its own
    EARLY_FINALITY = "early_finality"  # it calls its newest block final
    EMPTY_CACHES = "empty_caches"  # every view is zero, for as long as the fault is in force
    RECEIPTS_REFUSED = "receipts_refused"  # an error instead of a receipt, code or storage; a receipt without a block
    STATE_PRUNED = "state_pruned"  # the state of blocks more than `blocks` below the head is gone
    # Bodies and connections.
    HTML = "html"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    HUGE = "huge"
    GZIPPED = "gzipped"
    WRONG_IDS = "wrong_ids"
    ITEM_MISSING = "item_missing"
    SHUFFLED = "shuffled"  # a batch answered in another order, as the standard allows
    SLOW = "slow"
    RESET = "reset"
    # The WebSocket.
    PUSH_STALLED = "push_stalled"  # pings are answered, nothing else comes
    PUSH_HALF_OPEN = "push_half_open"  # nothing is read or written any more, and nothing says so
    PUSH_CLOSED = "push_closed"
    PUSH_SHUFFLED = "push_shuffled"
    PUSH_DOUBLED = "push_doubled"
    PUSH_REMOVED = "push_removed"  # a log is called `removed` that is not, or one that never was


K = RpcFaultKind
VIEW: Final = (K.LAG, K.REPLICAS, K.STATE_PRUNED)
ASKED: Final = (K.EARLY_FINALITY,)  # changes the question, not the answer
INSTEAD: Final = (K.RESET, K.RATE_LIMITED, K.RATE_LIMITED_RPC, K.UNAVAILABLE, K.RANGE_REFUSED, K.HTML, K.EMPTY)
BODY: Final = (K.TRUNCATED, K.HUGE, K.GZIPPED, K.WRONG_IDS, K.ITEM_MISSING, K.SHUFFLED)
PUSH: Final = tuple(kind for kind in K if kind.startswith("push_"))
ANSWER: Final = tuple(kind for kind in K if kind not in (*VIEW, *ASKED, *INSTEAD, *BODY, *PUSH, K.SLOW))

# (HTTP status, JSON-RPC code, words): how nodes say that a range of blocks or its result is too large.
RANGE_DIALECTS: Final[tuple[tuple[int, int, str], ...]] = (
    (200, -32005, "query returned more than 10000 results"),
    (200, -32602, "Log response size exceeded. Based on your parameters, this block range should work: [0x1, 0x2]"),
    (200, -32000, "block range is too wide"),
    (413, -32701, "eth_getLogs is limited to a 10,000 range"),
    (200, -32600, "eth_getLogs is limited to 1024 block range"),
    (200, -32602, "Max range: 800"),
    (200, -32602, "Maximum allowed number of requested blocks is 1000"),
    (200, -32000, "Block range limit exceeded."),
    (200, -32000, "please limit the query to at most 1000 blocks"),
    (200, -32000, "maximum block range: 2000"),
    (200, -32000, "query exceeds max block range 1000"),
    (200, -32602, "block range greater than 1000 max"),
    (200, -32000, "block range exceeds 500"),
    (200, -32600, "eth_getLogs range is too large, max is 1k blocks"),
    (200, -32000, "query must be smaller than size 1000"),
    (200, -32600, "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range."),
    (200, -32000, "maximum [from, to] blocks distance: 2000"),
    (200, -32000, "exceed max block range: 1000"),
    (200, -32005, "block range too large"),
    (200, -32000, "backend response too large"),
    (200, -32603, "query exceeds max results 20000"),
    (200, -32000, "exceeded max allowed logs"),
    (200, -32000, "range threshold exceeded"),
    (200, -32011, "no backends available for method"),
    (200, -32603, "Internal error"),
    (200, -32000, "requested too many blocks from 1 to 9, maximum is set to 2"),
    (200, -32614, "eth_getLogs is limited to a 10,000 range"),
    (200, -32000, "logs matched by query exceeds limit of 10000"),
    (200, -32602, "invalid params: too many blocks, try with this block range [0x1, 0x2]"),
    (200, -32001, "Query timeout exceeded. Consider reducing your block range."),
    (400, -32600, "the range is not supported on your plan"),
    (413, 0, ""),
    (503, 0, ""),
)  # fmt: skip
RATE_DIALECTS: Final[tuple[tuple[int, str], ...]] = (
    (-32005, "project ID request rate exceeded"),
    (-32005, "daily request count exceeded, request rate limited"),
    (-32029, "Too Many Requests"),
    (429, "Your app has exceeded its compute units per second capacity."),
    (-32007, "50/second request limit reached - reduce calls per second, rate limit exceeded"),
    (-32090, "Too many requests, reason: call rate limit exhausted, retry in 10s"),
)
# None: no header. A date far in the past and far in the future; numbers no clock can hold; no number at all.
RETRY_AFTER_SHORT: Final = (None, "0", "1", "0.5", "-5", "soon", "Thu, 01 Jan 1970 00:00:00 GMT")
RETRY_AFTER: Final = (*RETRY_AFTER_SHORT, "99999999", "1e400", "9" * 60, "Fri, 31 Dec 9999 23:59:59 GMT", "Wed, 99 X")


@dataclass(frozen=True, slots=True)
class RpcFault:
    """One misbehaviour: for `times` times that it changes something (None: until cleared), each with `probability`.

    `endpoint` names the endpoint that has it, None means every one. `blocks` is for LAG, REPLICAS and STATE_PRUNED,
    `fraction` for LOGS_DROPPED, `index` for LOG_HIDDEN, `seconds` (at most) for SLOW, `size_bytes` for HUGE.
    """

    kind: RpcFaultKind
    probability: float = 1.0
    times: int | None = None
    endpoint: str | None = None
    blocks: int = 3
    fraction: float = 0.3
    index: int | None = None
    seconds: float = 2.0
    size_bytes: int = 5 * 1024 * 1024


class RpcFaultBook:
    """The faults in force, and the journal of those that really changed something."""

    def __init__(self, chance: random.Random, path: Path) -> None:
        self.chance = chance
        self.struck: Counter[str] = Counter()
        self._active: list[RpcFault] = []
        self._file: TextIO = path.open("a")

    def add(self, *faults: RpcFault) -> None:
        self._active.extend(faults)

    def clear(self) -> None:
        self._active.clear()

    def close(self) -> None:
        self._file.close()

    @property
    def active(self) -> tuple[RpcFault, ...]:
        return tuple(self._active)

    def drawn(self, kinds: Collection[RpcFaultKind], endpoint: str) -> list[RpcFault]:
        """Those of these kinds whose turn it is for one request to an endpoint. Nothing is counted yet."""
        return [
            fault
            for fault in self._active
            if fault.kind in kinds and fault.endpoint in (None, endpoint) and self.chance.random() < fault.probability
        ]

    def strike(self, fault: RpcFault, endpoint: str, **details: Any) -> None:
        """It has changed something: written down, and one of its times is used up."""
        self.struck[fault.kind] += 1
        write_line(self._file, at_ms=time.time_ns() // 1_000_000, fault=fault.kind, endpoint=endpoint, **details)
        if fault.times is None:
            return
        for position, active in enumerate(self._active):
            if active == fault:
                self._active[position : position + 1] = (
                    [replace(active, times=fault.times - 1)] if fault.times > 1 else []
                )
                return


Twist = Callable[["RpcFault", random.Random, list[dict[str, Any]], list[dict[str, Any]]], bool]
