"""All measures, in the order in which they run."""

from collections.abc import Sequence
from typing import Any

from bench.measure import Aim, Curve, Measure
from bench.measures.burst import Burst, side_name
from bench.measures.hook_abuse import HookAbuse
from bench.measures.hook_overhead import HookOverhead
from bench.measures.idle import Idle
from bench.measures.ingest import Ingest
from bench.measures.large_ledger import LargeLedger
from bench.measures.latency import Latency
from bench.measures.memory import Memory
from bench.measures.replicas import ReplicaBurst, Takeover
from bench.measures.slow_api import SlowApi
from bench.measures.start import Start
from bench.sizes import DEFAULT_CONCURRENCY, Sizes

WATCHER = "watcher"
QUICK = ("start", "burst", "latency", "ingest")
_FSYNC_MS = 5.0
_DEFAULT, _MANY = DEFAULT_CONCURRENCY, 32


def measures(sizes: Sizes) -> Sequence[Measure[Any]]:
    """Return every measure in these sizes."""
    most = max(sizes.concurrencies)
    return (
        Start(),
        Idle(sizes.blocks),
        Latency(sizes.singles, sizes.crowds, sizes.crowd),
        Ingest(sizes.ingest),
        HookOverhead(sizes.hook_tasks),
        HookAbuse(sizes.hook_tasks // 5),
        Burst(
            "burst",
            "burst: tasks present all at once",
            sizes.burst,
            sizes.concurrencies,
            aims=_burst_aims(4.0, 3.0),
            curves=(_burst_curve("burst", "Burst"),),
        ),
        Burst(
            "slow-fsync",
            f"burst, each fsync {_FSYNC_MS:g} ms longer",
            sizes.slow_burst,
            sizes.slow_concurrencies,
            fsync_ms=_FSYNC_MS,
            aims=_burst_aims(30.0, 20.0),
        ),
        Burst("postgresql", "burst, ledger on PostgreSQL", sizes.slow_burst, (_MANY,), postgres=True),
        ReplicaBurst("replicas", "replicas whose hook and API take 50 and 100 ms", sizes.replicas, waits=True),
        ReplicaBurst("replicas-cpu", "replicas on the CPUs of one machine", sizes.replicas, waits=False),
        Takeover(),
        SlowApi(sizes.open, sizes.open_s, (_DEFAULT, most)),
        Memory(sizes.many),
        LargeLedger(sizes.grown),
    )


def _burst_aims(many: float, default: float) -> Sequence[Aim]:
    """Return the aims of a burst over the naive script."""
    return (
        Aim(side_name(WATCHER, _MANY), "per_s", "times", many, at_least=True),
        Aim(side_name(WATCHER, _DEFAULT), "per_s", "times", default, at_least=True),
        Aim(side_name(WATCHER, _MANY), "cpu_us", "times", 0.25),
    )


def _burst_curve(file: str, title: str) -> Curve:
    return Curve(file, title, "requests at a time", "tasks/s", figure="per_s", log_x=True)
