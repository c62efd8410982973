"""The progress of a benchmark on stderr: a bar on a terminal, else a line for each run."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.runner import Progress as Report


@contextmanager
def bars(runs: int) -> Iterator[Report]:
    """Yield a function that takes a line before each run. `runs` is their number."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda line: console.print(line, markup=False, highlight=False)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        bar = progress.add_task("preparing", total=runs)
        begun = 0

        def report(line: str) -> None:
            nonlocal begun
            progress.update(bar, description=line, completed=begun)
            begun += 1

        yield report
        progress.update(bar, completed=runs)
