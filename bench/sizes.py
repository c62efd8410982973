"""How much each measure does."""

from dataclasses import dataclass

DEFAULT_CONCURRENCY = 0


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of all measures. Counts are tasks unless a name says otherwise.

    Attributes:
        repeats: runs of each side.
        ingest: tasks on the chain of the ingest.
        burst: tasks present at once, for the watcher and for the script.
        concurrencies: [operator] concurrency of the burst's sides; DEFAULT_CONCURRENCY: not set.
        slow_concurrencies: the same for slow fsyncs.
        slow_burst: the same with slow fsyncs, and on PostgreSQL.
        replicas: tasks for replicas.
        singles: blocks with one task; `crowds` blocks with `crowd` tasks each.
        many: tasks over which memory is watched.
        open: open tasks in front of the slow API, which is watched for `open_s` seconds.
        grown: sizes of the grown ledgers.
        hook_tasks: tasks through each way of a hook.
        blocks: empty blocks, and blocks with one task, of the idle measure.
    """

    repeats: int = 5
    ingest: int = 10_000
    burst: int = 4_000
    concurrencies: tuple[int, ...] = (DEFAULT_CONCURRENCY, 4, 32, 128)
    slow_concurrencies: tuple[int, ...] = (DEFAULT_CONCURRENCY, 32)
    slow_burst: int = 1_000
    replicas: int = 500
    singles: int = 40
    crowds: int = 3
    crowd: int = 100
    many: int = 20_000
    open: int = 10_000
    open_s: float = 6.0
    grown: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    hook_tasks: int = 4_000
    blocks: int = 15


FULL = Sizes()
QUICK = Sizes(
    repeats=3,
    ingest=2_000,
    burst=1_500,
    concurrencies=(32,),
    slow_concurrencies=(32,),
    slow_burst=300,
    replicas=100,
    singles=12,
    crowds=1,
    many=1_000,
    open=1_000,
    open_s=4.0,
    grown=(10_000,),
    hook_tasks=1_000,
    blocks=10,
)
