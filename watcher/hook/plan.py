"""The numbers and limits of runs, which every way to run a hook takes. A transport uses those that apply to it."""

from dataclasses import dataclass, field

from watcher.hook import sandbox
from watcher.hook.protocol import ANSWER_LIMIT_BYTES
from watcher.hook.room import Room
from watcher.hook.values import ValueTypes

START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The numbers and limits of a pool.

    Attributes:
        workers: the number of worker processes.
        timeout_s: the limit of one run, in seconds.
        tasks_per_worker: a worker is replaced after so many runs; 0: never.
        answer_limit_bytes: the longest answer.
        start_timeout_s: the limit of loading the hook, in seconds.
        landlock: the mode of `watcher.hook.sandbox`.
        hidden: the paths that the sandbox closes to the hook.
        memory_mb: the limit of each process of a worker in MiB; 0: none.
        tracebacks: a failure carries the traceback of the hook's code, for a person who tries it.
        types: the types of messages and answers.
        run_twice: run each task in two processes, and take an answer that both give.
        room: bounds the workers that run at the same time over all pools of the process; None: there is no bound.
        background: the workers have the lowest priority, and what they print is dropped (`watcher.hook.background`).
    """

    workers: int = 2
    timeout_s: float = 30.0
    tasks_per_worker: int = 1000
    answer_limit_bytes: int = ANSWER_LIMIT_BYTES
    start_timeout_s: float = START_TIMEOUT_S
    landlock: str = sandbox.AUTO
    hidden: tuple[str, ...] = ()
    memory_mb: int = 0
    tracebacks: bool = False
    types: ValueTypes = field(default_factory=ValueTypes)
    run_twice: bool = False
    room: Room | None = None
    background: bool = False
