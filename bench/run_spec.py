"""The request to a child process and its result. Both travel as one line of JSON."""

import json
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TaskChain:
    """A chain with its tasks, all mined: `tasks` of them from `start_block` on."""

    rpc_url: str
    chain_id: int
    task_manager: str
    start_block: int
    tasks: int


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run of one side. `side` is a key of `bench.child.SIDES`; `directory` is empty, and for this run alone."""

    side: str
    task_chain: TaskChain
    directory: str
    span_blocks: int = 100
    # The burst only.
    api_url: str = ""
    username: str = "admin"
    password: str = "not a secret"  # of a local server that runs for seconds
    concurrency: int = 32
    workers: int = 2

    @property
    def folder(self) -> Path:
        return Path(self.directory)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "RunSpec":
        fields = json.loads(text)
        return cls(**{**fields, "task_chain": TaskChain(**fields["task_chain"])})


@dataclass(slots=True)
class Measured:
    """The cost of a run: seconds of time and of CPU of its process. `parts` is CPU in us per task."""

    tasks: int
    wall_s: float = 0.0
    cpu_s: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        return self.tasks / self.wall_s

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.tasks * 1e6

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Measured":
        fields: Mapping[str, object] = json.loads(text)
        return cls(**fields)  # type: ignore[arg-type]


def cpu_s() -> float:
    """Return the CPU seconds of this process so far, user and system, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def measuring(tasks: int) -> Iterator[Measured]:
    """Measure the time and the CPU of the block."""
    measured = Measured(tasks)
    began_s, began_cpu_s = time.perf_counter(), cpu_s()
    yield measured
    measured.wall_s, measured.cpu_s = time.perf_counter() - began_s, cpu_s() - began_cpu_s
