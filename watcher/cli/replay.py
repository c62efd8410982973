"""`watcher replay`: past tasks through a new hook, compared with the answers of the past."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.cli.options import DEFAULT_CONFIG, Config, Json, load, print_json
from watcher.cli.past_tasks import Plan, opened_tasks
from watcher.cli.selection import block_range, moment_ms
from watcher.clock import SystemClock
from watcher.errors import FixUsage
from watcher.ledger.replay import Selection
from watcher.redact import hide_urls
from watcher.report.replay import Replayed, Result, Summary, replay
from watcher.report.replay_files import JUnitFile, headline, markdown, refuse_unwritable, sides
from watcher.settings.model import Settings
from watcher.state import State
from watcher.text import escape, one_line

if TYPE_CHECKING:
    from rich.progress import Progress

_PRINTED = 10
_VALUE_LIMIT_CHARS = 300
# Runs per worker under way, so that a fast hook never waits for the next task.
_AHEAD = 2


_NAMES = {
    Result.EQUAL: "equal",
    Result.DIFFERENT: "different",
    Result.FAILED: "failed",
    Result.SKIPPED: "skipped",
    Result.LATER: "asked for later",
    Result.NEW: "not answered before",
}


def replay_command(
    target: Annotated[
        str | None, typer.Argument(help="The new hook, as hook.target names one; the configured one if left out.")
    ] = None,
    config: Config = DEFAULT_CONFIG,
    chain: Annotated[
        bool, typer.Option("--chain/--from-ledger", help="Read tasks and answers from the contract's logs alone.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(help="Only tasks seen since: ISO 8601, or how long ago (12h, 7d).")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only tasks seen until then.")] = None,
    blocks: Annotated[str | None, typer.Option(metavar="A..B", help="Only tasks of these blocks.")] = None,
    state: Annotated[State | None, typer.Option(help="Only tasks in this state of the ledger.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="So many of them, chosen at random, always alike.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many: of a ledger the newest.")] = None,
    as_json: Json = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a JUnit report.")] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Also write a Markdown report.")
    ] = None,
) -> None:
    """Run past tasks through a hook and compare its answers with those recorded and accepted. Sends nothing.

    Exit code 1 if a task that was answered gets another answer or none. An answer that equals the recorded or the
    accepted one is no difference. Reads the ledger and changes nothing in it.
    """
    settings = _load(config, target)
    plan = Plan(chain, _selection(since, until, blocks, state, chain=chain), sample, limit)
    summary = _replay_all(settings, config, plan, junit, markdown_file)
    if as_json:
        print_json(summary.as_json())
    else:
        _print(summary)
    if not summary.ok:
        raise typer.Exit(1)


def _load(config: Path, target: str | None) -> Settings:
    settings = load(config, reading_only=True, overrides={} if target is None else {"hook.target": target})
    if not settings.hook.target:
        raise FixUsage("name a TARGET, or set hook.target")
    return settings


def _selection(
    since: str | None, until: str | None, blocks: str | None, state: State | None, *, chain: bool
) -> Selection:
    if chain and state is not None:
        raise FixUsage("--state names a state of the ledger, and --chain does not read the ledger")
    now_ms = SystemClock().now_ms()
    first, last = (None, None) if blocks is None else block_range(blocks)
    return Selection(
        first,
        last,
        None if since is None else moment_ms(since, now_ms),
        None if until is None else moment_ms(until, now_ms),
        state,
    )


def _replay_all(
    settings: Settings, config: Path, plan: Plan, junit: Path | None, markdown_file: Path | None
) -> Summary:
    """Replay the tasks, write the files, and return the summary. Raises FixUsage where no task is selected."""
    summary = Summary(hide_urls(settings.hook.target), "", "chain" if plan.chain else "ledger")
    with ExitStack() as stack:
        cases = None if junit is None else stack.enter_context(JUnitFile(junit))
        if markdown_file is not None:
            refuse_unwritable(markdown_file)
        bar = stack.enter_context(_bar())
        progress = bar.add_task("")

        def listener(replayed: Replayed) -> None:
            summary.add(replayed)
            if cases is not None:
                cases.add(replayed)
            bar.advance(progress)

        asyncio.run(_run(settings, config, plan, summary, listener, lambda total: bar.update(progress, total=total)))
        if not summary.tasks:
            raise FixUsage("no task is selected, so that nothing was compared; `watcher tasks list` shows the ledger")
        if cases is not None:
            cases.write(summary)
    if markdown_file is not None:
        markdown_file.write_text("\n".join(markdown(summary)) + "\n", encoding="utf-8")
    return summary


def _bar() -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from watcher.cli.console import PlainConsole

    columns = (TextColumn("replaying", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=PlainConsole(to_stderr=True), transient=True, disable=not sys.stderr.isatty())


async def _run(
    settings: Settings,
    config: Path,
    plan: Plan,
    summary: Summary,
    listener: Callable[[Replayed], None],
    on_total: Callable[[int | None], None],
) -> None:
    from watcher.daemon import parts
    from watcher.daemon.decoder import decoder_of
    from watcher.daemon.wiring import fitted

    hidden = parts.hidden_paths(settings.ledger, config, os.environ)
    async with opened_tasks(settings, plan) as (tasks, contract, total):
        on_total(total)
        async with parts.hook_runner(settings.hook, hidden) as runner:
            summary.version = runner.version
            parallel = settings.hook.workers * _AHEAD
            await replay(tasks, fitted(runner.run, contract), decoder_of(settings), parallel, listener)


def _print(summary: Summary) -> None:
    from rich.table import Table

    from watcher.cli.console import PlainConsole

    console = PlainConsole()
    table = Table(show_header=False, title="replay")
    table.add_row("hook", f"{escape(summary.target)} ({summary.version})")
    table.add_row("tasks", f"{summary.tasks} of the {summary.source}")
    for result in Result:
        if summary.counts[result]:
            table.add_row(_NAMES[result], str(summary.counts[result]))
    if summary.unlike_chain:
        table.add_row("as recorded, unlike the chain", str(summary.unlike_chain))
    for name, timing in (("recorded", summary.recorded_ms), ("replayed", summary.replayed_ms)):
        values = timing.percentiles().items()
        if any(value is not None for _, value in values):
            table.add_row(f"{name}, ms", ", ".join(f"{share} {value}" for share, value in values))
    table.add_row("differences", str(summary.differences) if summary.differences else "none")
    console.print(table)
    cases = sorted(summary.kept, key=lambda replayed: replayed.task_index)[:_PRINTED]
    for case in cases:
        console.print(f"task {case.task_index}: {headline(case)}", soft_wrap=True)
        for name, text in sides(case):
            console.print(f"{name:>23}  {one_line(text, _VALUE_LIMIT_CHARS)}", soft_wrap=True)
    if summary.differences > len(cases):
        console.print(f"and {summary.differences - len(cases)} more; --json and --markdown show them")
