"""What a run sets out to do, and in which order the faults come. Same seed, same order."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.torture.rpc_faults import RpcFault, RpcFaultKind
from watcher.devnet.faults import Fault, FaultKind

R, A = RpcFaultKind, FaultKind
# Not much harm is done by one of these in a short run, and none needs more than a few seconds to be over.
CORE_RPC = frozenset(
    {R.LAG, R.RATE_LIMITED_RPC, R.UNAVAILABLE, R.HTML, R.TRUNCATED, R.RESET, R.BLOCK_NULL, R.LOGS_DOUBLED, R.SHUFFLED}
)
CORE_API = frozenset({A.RESET, A.STATUS, A.TRANSIENT_400, A.WRONG_ID, A.NEVER_LANDS, A.WRONG_TX_HASH, A.RIVAL})
# Chances per request, where the usual one does not fit.
RPC_CHANCE = {
    R.LAG: 0.4,
    R.REPLICAS: 0.5,
    R.EMPTY_CACHES: 1.0,
    R.STATE_PRUNED: 1.0,
    R.RECEIPTS_REFUSED: 1.0,
    R.LOG_HIDDEN: 1.0,
    R.RANGE_REFUSED: 0.5,
    R.PUSH_STALLED: 0.02,
    R.PUSH_HALF_OPEN: 0.02,
    R.PUSH_CLOSED: 0.1,
    R.PUSH_DOUBLED: 0.3,
    R.PUSH_SHUFFLED: 0.3,
    R.PUSH_REMOVED: 0.5,
    R.HUGE: 0.02,
    R.SHUFFLED: 0.5,
    R.SLOW: 0.2,
    R.FAR_HEAD: 0.3,
    R.FORKED_NODE: 0.3,
    R.EARLY_FINALITY: 0.5,
}
# One endpoint only: when all of them lie alike, nobody can tell.
ZEROS = frozenset({R.STALE_CALL, R.EMPTY_CACHES})
ONE_ENDPOINT = ZEROS | {R.WRONG_CHAIN, R.BLOCK_WRONG_HASH, R.FAR_HEAD, R.FORKED_NODE, R.EARLY_FINALITY}
API_CHANCE = {A.RIVAL: 0.1, A.TIMEOUT: 0.05, A.HUGE_BODY: 0.02, A.GZIP_BOMB: 0.02, A.NEVER_LANDS: 0.1}
RAW_BODIES = (
    "",
    "null",
    "[]",
    "\ufeff{}",
    "[" * 5000,
    '{"id":1e999}',
    "NaN",
    '{"result":' + "9" * 5000 + "}",
    "\udc80",
)
RETRY_AFTER = (None, "0", "1", "-3", "Thu, 01 Jan 1970 00:00:00 GMT", "2", "not a date")


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes and time. `rpc` and `api` are the fault classes of this run: each must really happen at least once."""

    tasks: int
    kills: int
    reorgs: int
    seed: int
    minutes: float
    rpc: frozenset[RpcFaultKind]
    api: frozenset[FaultKind]
    quorum: int = 1
    tasks_per_s: float = 20.0  # as they are meant to come

    @property
    def small(self) -> bool:
        """Too short for every fault class and every move to be met."""
        return self.kills < 20

    @property
    def pace_s(self) -> float:
        """How long the havoc is meant to last: a life of the daemon takes about 5 s, two of them its start."""
        return min(self.minutes * 60, max(5.0 * self.kills, 3.0 * self.reorgs, self.tasks / self.tasks_per_s))

    @property
    def window_blocks(self) -> int:
        """Long enough for a busy machine to answer most tasks while the daemon is killed again and again."""
        return 400 if self.small else 1600


def make_plan(
    tasks: int, kills: int, reorgs: int, seed: int, minutes: float, without: Sequence[str] = (), quorum: int = 2
) -> Plan:
    """All faults but those `without`; a small run has only those that are soon over."""
    rpc, api = (CORE_RPC, CORE_API) if kills < 20 else (frozenset(R), frozenset(A))
    rpc = frozenset(kind for kind in rpc if f"rpc.{kind}" not in without)
    api = frozenset(kind for kind in api if f"api.{kind}" not in without)
    if quorum == 1:  # then the first node that answers is believed in what it says of the contract
        rpc -= ZEROS | {R.EARLY_FINALITY}
    return Plan(tasks, kills, reorgs, seed, minutes, rpc, api, quorum)


def dealt(things: Sequence[Any], chance: random.Random) -> Iterator[Any]:
    """One after the other in random order, all of them before any comes again."""
    while True:
        yield from chance.sample(list(things), len(things))


def rpc_fault(kind: RpcFaultKind, chance: random.Random, recent_index: int, *, once: bool = False) -> RpcFault:
    return RpcFault(
        kind,
        probability=1.0 if once else RPC_CHANCE.get(kind, 0.08),
        times=1 if once else None,
        endpoint="a" if kind in ZEROS else "b" if kind in ONE_ENDPOINT else None,
        blocks=chance.randint(1, 6),
        fraction=chance.uniform(0.1, 1),
        index=recent_index,
        seconds=chance.choice((0.5, 2.0, 6.0)),
    )


def _text(kind: FaultKind, chance: random.Random) -> str | None:
    match kind:
        case A.RIVAL:
            return "0x" + chance.randbytes(8).hex()
        case A.RAW_BODY | A.STATUS:
            return chance.choice(RAW_BODIES)
    return None


def api_fault(kind: FaultKind, chance: random.Random, *, once: bool = False) -> Fault:
    status = chance.choice((500, 502, 503, 504, 429, 401, 403, 404, 408, 413))
    return Fault(
        kind,
        times=1 if once else None,
        probability=1.0 if once else API_CHANCE.get(kind, 0.15),
        after=chance.choice((None, True, False)),
        status=status,
        retry_after=chance.choice(RETRY_AFTER),
        seconds=0.05 if kind is A.SLOW_DRIP else 30.0,
        blocks=chance.randint(2, 20),
        size_bytes=1024 * 1024,
        text=_text(kind, chance),
    )
