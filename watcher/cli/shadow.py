"""`watcher shadow`: what the shadow hook would have answered."""

from typing import Annotated

import typer

from watcher.cli.avs import of_one
from watcher.cli.options import DEFAULT_CONFIG, Config, Json, ledger, load, print_json
from watcher.cli.selection import moment_ms
from watcher.clock import SystemClock
from watcher.errors import TryLater
from watcher.ledger import shadow as runs
from watcher.report.shadow import Difference, ShadowReport
from watcher.settings.model import Settings
from watcher.text import escape, one_line

app = typer.Typer(help="Compare the shadow hook with the live one.", no_args_is_help=True)

_PRINTED = 10
_VALUE_LIMIT_CHARS = 300


@app.callback()
def shadow() -> None:
    """Compare the shadow hook with the live one."""


@app.command("report")
@of_one
def report(
    config: Config = DEFAULT_CONFIG,
    since: Annotated[str | None, typer.Option(help="Only runs since: ISO 8601, or how long ago (12h, 7d).")] = None,
    version: Annotated[str | None, typer.Option(help="Of this version of the shadow; the newest if left out.")] = None,
    all_versions: Annotated[bool, typer.Option("--all-versions", help="Of every version of the shadow.")] = False,
    as_json: Json = False,
) -> None:
    """Compare the runs of the shadow with those of the live hook: results, answers side by side, and times.

    Exit code 1 if the shadow came to another result on a task, or failed. Reads the ledger and changes nothing in it.
    """
    settings = load(config, reading_only=True)
    since_ms = None if since is None else moment_ms(since, SystemClock().now_ms())
    result = _read(settings, version, since_ms, all_versions=all_versions)
    if as_json:
        print_json(result.as_json())
    else:
        _print(result)
    if not result.ok:
        raise typer.Exit(1)


def _read(settings: Settings, version: str | None, since_ms: int | None, *, all_versions: bool) -> ShadowReport:
    """Return the report. Raises TryLater where there is no run."""
    from watcher.daemon.decoder import decoder_of

    decoder = decoder_of(settings)
    with ledger(settings) as (reader, source_id):
        result = ShadowReport(reader.read_now(runs.dropped_runs, source_id))
        if version is None and not all_versions:
            version = reader.read_now(runs.newest_version, source_id)
        before_id: int | None = None
        while page := reader.read_now(runs.stored_runs, source_id, version, since_ms, before_id):
            result.add(page, decoder)
            before_id = page[-1].id
    if not result.runs:
        if settings.hook.shadow.target:
            raise TryLater("the ledger holds no such run of the shadow yet; a run follows each run of the hook")
        raise TryLater("the ledger holds no run of a shadow; set target in [hook.shadow] and reload (SIGHUP)")
    return result


def _print(result: ShadowReport) -> None:
    from rich.table import Table

    from watcher.cli.console import PlainConsole

    fields = result.as_json()
    console = PlainConsole()
    table = Table(show_header=False, title="shadow")
    table.add_row("shadow", escape(", ".join(fields["versions"])))
    table.add_row("live", escape(", ".join(fields["live_versions"])))
    table.add_row("runs", f"{fields['runs']} from {fields['first_at']} to {fields['last_at']}")
    for name in ("agrees", "differs", "failed", "dropped"):
        table.add_row(name, str(fields[name]))
    for name in ("live_ms", "shadow_ms"):
        values = ", ".join(f"{share} {value}" for share, value in fields[name].items() if value is not None)
        table.add_row(name.replace("_", ", "), values or "none answered")
    console.print(table)
    for difference in result.differences[:_PRINTED]:
        console.print(f"task {difference.task_index}: {_headline(difference)}", soft_wrap=True)
        for name, payload in (
            ("message", difference.message),
            ("live", difference.live),
            ("shadow", difference.shadow),
        ):
            if payload is not None:
                console.print(f"{name:>12}  {one_line(payload.text, _VALUE_LIMIT_CHARS)}", soft_wrap=True)
    left = fields["runs"] - fields["agrees"] - len(result.differences[:_PRINTED])
    if left:
        console.print(f"and {left} more; --json shows them")


def _headline(difference: Difference) -> str:
    """Return one line about a difference."""
    if difference.live_outcome == difference.outcome == runs.ANSWERED:
        return f"another answer, from byte {difference.first_byte} on"
    because = f": {one_line(difference.reason, _VALUE_LIMIT_CHARS)}" if difference.reason else ""
    return f"live {difference.live_outcome}, shadow {difference.outcome}{because}"
