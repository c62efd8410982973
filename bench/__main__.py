"""The command `python -m bench`: prepares the chain, runs the sides in turn, prints tables. Progress is on stderr."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import burst, ingest
from bench.report import Report
from bench.rounds import Failed
from bench.task_chain import anvil_chain
from watcher.errors import WatcherError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[str, typer.Option(help="ingest, burst or both.")] = "both",
    ingest_tasks: Annotated[int, typer.Option(min=100, help="Tasks on the chain for the ingest.")] = 10_000,
    burst_tasks: Annotated[int, typer.Option(min=10, help="Tasks present at once in the burst.")] = 2_000,
    naive_tasks: Annotated[int, typer.Option(min=10, help="Tasks of the naive burst; rates are compared.")] = 500,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each side, in turn; 5 or more for a result.")] = 5,
    slow_fsync_ms: Annotated[float, typer.Option(min=0, help="Delay of each fsync in the slow burst, in ms.")] = 5.0,
    concurrency: Annotated[int, typer.Option(min=1, help="[operator] concurrency of the watcher.")] = 32,
    anvil: Annotated[Path | None, typer.Option(envvar="WATCHER_ANVIL", help="The anvil binary.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Measure the watcher against the script a team would write first, side by side in one run."""
    report = Report()

    async def run(folder: Path, progress: Callable[[str], None]) -> None:
        async with anvil_chain(anvil, folder) as (chain, url):
            if only in ("both", "ingest"):
                ingest_plan = ingest.Plan(ingest_tasks, repeats)
                await ingest.run(chain, url, ingest_plan, folder, report, progress)
            if only in ("both", "burst"):
                burst_plan = burst.Plan(burst_tasks, naive_tasks, repeats, slow_fsync_ms, concurrency)
                await burst.run(chain, url, burst_plan, folder, report, progress)

    if only not in ("both", "ingest", "burst"):
        raise typer.BadParameter("--only takes ingest, burst or both")
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, _progress() as progress:
            asyncio.run(run(Path(folder), progress))
    except (Failed, WatcherError) as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        report.show(Console(width=110))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what is being run: in place on a terminal, else line by line."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda line: console.print(line)
        return
    with console.status("starting") as status:
        yield status.update


if __name__ == "__main__":
    app()
