"""The circumstances of a whole benchmark: programs, sizes, tools, folders."""

from dataclasses import dataclass
from pathlib import Path

from bench.program import Program
from bench.sizes import Sizes


@dataclass(frozen=True, slots=True)
class Rig:
    """Where and with what measures run.

    Attributes:
        programs: the watchers; with two, each is compared with the second, and no peer runs.
        sizes: how much each measure does.
        anvil: the binary of the local chain.
        folder: for the runs; removed afterwards.
        cache: for what later benchmarks use again: environments of peers, filled ledgers.
        commit: of the working tree, when the benchmark began.
        load_before: the machine's load average before the first measure, which adds load of its own.
    """

    programs: tuple[Program, ...]
    sizes: Sizes
    anvil: Path
    folder: Path
    cache: Path
    commit: str = ""
    load_before: float = 0.0

    @property
    def with_peers(self) -> bool:
        return len(self.programs) == 1
