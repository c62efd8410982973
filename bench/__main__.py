"""The command `python -m bench`: runs measures, keeps their results in a file, prints tables. Progress is on stderr."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench import catalogue, machine, page, results, revision
from bench.errors import Failed
from bench.measure import Measure
from bench.program import Program
from bench.progress import bars
from bench.results import MeasureResult, Results
from bench.rig import Rig
from bench.runner import run_measure, runs_of
from bench.sizes import FULL, QUICK, Sizes
from bench.tables import show
from watcher.devnet.anvil_binary import find_anvil
from watcher.errors import WatcherError

_CACHE = machine.ROOT / ".bench"
_FILE, _QUICK_FILE = _CACHE / "results.json", _CACHE / "quick.json"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[list[str] | None, typer.Option(help="A measure; may be repeated. Without it: all.")] = None,
    repeats: Annotated[int, typer.Option(min=0, help="Runs of each side; 0: as many as the sizes say.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, few measures, no results of before.")] = False,
    against: Annotated[str, typer.Option(help='A revision to compare with; "last": the last commit.')] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what the file has of this commit.")] = False,
    file: Annotated[Path | None, typer.Option(help="Where results are kept; default: below .bench/.")] = None,
    anvil: Annotated[Path | None, typer.Option(envvar="WATCHER_ANVIL", help="The anvil binary.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Measure nothing; write the file's results to docs/.")
    ] = False,
) -> None:
    """Measure the watcher beside its peers, or beside another revision of itself."""
    file = file or (_QUICK_FILE if quick else _FILE)
    sizes = QUICK if quick else FULL
    if repeats:
        sizes = replace(sizes, repeats=repeats)
    try:
        if publish:
            page.publish(results.read(file))
            return
        before = Results() if quick or fresh else results.read(file)
        selected = _selected(sizes, only or (catalogue.QUICK if quick else ()))
        done = asyncio.run(_measure(selected, sizes, against, anvil, before, file))
    except (Failed, WatcherError) as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print(f"bench: stopped; finished measures are in {file}", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        sys.stdout.write(results.to_json(done).decode())
    else:
        show(done, Console(width=None if sys.stdout.isatty() else 160))
    if any(item.failed for result in done.measures.values() for item in result.skipped):
        raise typer.Exit(1)


def _selected(sizes: Sizes, only: Sequence[str]) -> Sequence[Measure[Any]]:
    """Return the measures of these names, all of them without names. Raises BadParameter for an unknown one."""
    known = {measure.name: measure for measure in catalogue.measures(sizes)}
    if unknown := [name for name in only if name not in known]:
        raise typer.BadParameter(f"--only {unknown[0]}: choose from {', '.join(known)}")
    return [measure for name, measure in known.items() if not only or name in only]


async def _measure(
    selected: Sequence[Measure[Any]], sizes: Sizes, against: str, anvil: Path | None, before: Results, file: Path
) -> Results:
    """Run the measures that have no result of this commit in these sizes, and write the file after each.

    Args:
        selected: the measures.
        sizes: how much they do.
        against: a revision to compare with; "": the peers.
        anvil: the binary of the local chain; None: it is searched.
        before: the results so far.
        file: where results are kept.

    Raises:
        Failed: the revision cannot be had.
    """
    load_before = machine.load()
    if machine.is_busy(load_before):
        print(f"bench: load {load_before}: other work disturbs the measurement", file=sys.stderr)
    programs = [Program(catalogue.WATCHER, Path(sys.executable))]
    if against:
        programs.append(await revision.program_at(revision.last() if against == "last" else against, _CACHE))
    commit = machine.current_commit()
    missing = [measure for measure in selected if not _is_done(before.measures.get(measure.name), commit, sizes)]
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        rig = Rig(tuple(programs), sizes, await find_anvil(anvil), Path(folder), _CACHE, commit, load_before)
        with bars(sum(runs_of(measure, rig) for measure in missing)) as progress:
            for measure in missing:
                before.measures[measure.name] = await run_measure(measure, rig, progress)
                results.write(before, file)
    return before


def _is_done(result: MeasureResult | None, commit: str, sizes: Sizes) -> bool:
    """Return True for a whole result of this very commit in these sizes."""
    if result is None or any(item.failed for item in result.skipped):
        return False
    return result.conditions.commit == commit and not commit.endswith("+") and result.sizes == sizes


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every side runs from compiled files
    app()
