"""`watcher report`: the service level of a time, as a table, JSON, CSV or one HTML page."""

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from watcher.cli.bare_ledger import LedgerFile, SourceName, open_to_read
from watcher.cli.options import DEFAULT_CONFIG, Config, Json, print_json
from watcher.cli.selection import moment_ms
from watcher.clock import SystemClock
from watcher.errors import FixUsage
from watcher.report.service_level import ServiceLevel
from watcher.report.service_level_fields import csv_lines
from watcher.report.service_report import service_report
from watcher.report.task_columns import csv_cell

_DAY_MS = 86_400_000
_LAST_MS = 253_402_300_799_000  # the end of the year 9999, the last that has a name
_STEPS = {"hour": _DAY_MS // 24, "day": _DAY_MS, "week": 7 * _DAY_MS}
_STEPS_LIMIT = 1000
# Without --by: the shortest step that gives a plot with at most so many points.
_STEPS_SHOWN = 100


def report(
    config: Config = DEFAULT_CONFIG,
    since: Annotated[str, typer.Option(help="The first moment: ISO 8601, or how long ago (12h, 7d).")] = "7d",
    until: Annotated[str | None, typer.Option(help="The moment behind the last; now, if left out.")] = None,
    by: Annotated[str | None, typer.Option(help="The step of plots and lines: hour, day or week.")] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: a line for each step, then the total.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML page with plots, which prints well.")
    ] = None,
    ledger_file: LedgerFile = None,
    source: SourceName = None,
) -> None:
    """Report the service level: answered in time, missed, by whom, how fast, attempts, availability.

    A task belongs to the time in which it was created. Reads the ledger alone, beside a daemon or without one.
    """
    if as_json and as_csv:
        raise FixUsage("name one of --json and --csv")
    now_ms = SystemClock().now_ms()
    since_ms = max(0, moment_ms(since, now_ms))
    until_ms = now_ms if until is None else min(moment_ms(until, now_ms), _LAST_MS)
    step_ms = _step_ms(by, since_ms, until_ms)
    with open_to_read(config, ledger_file, source) as ledger:
        reader, source_id = ledger.reader, ledger.source_id
        made = service_report(reader, source_id, since_ms, until_ms, step_ms, now_ms)
    document, level, parts = made.document, made.level, made.parts
    if html is not None:
        from watcher.report.service_level_page import write_page

        write_page(html, document, level, parts)
    if as_json:
        print_json(document)
    elif as_csv:
        _print_csv(level)
    elif html is None:
        _print(document)


def _step_ms(by: str | None, since_ms: int, until_ms: int) -> int:
    """Return the length of a step in milliseconds. Raises FixUsage."""
    if since_ms >= until_ms:
        raise FixUsage("--since is not before --until")
    if by is None:
        fitting = (step_ms for step_ms in _STEPS.values() if (until_ms - since_ms) // step_ms <= _STEPS_SHOWN)
        return next(fitting, -(-(until_ms - since_ms) // _STEPS_SHOWN))
    if by not in _STEPS:
        raise FixUsage(f"--by: {by[:40]!r} is none of {', '.join(_STEPS)}")
    if (until_ms - since_ms) // _STEPS[by] > _STEPS_LIMIT:
        raise FixUsage(f"--by {by} gives more than {_STEPS_LIMIT} steps; name a longer step or a shorter time")
    return _STEPS[by]


def _print(document: Mapping[str, Any]) -> None:
    from watcher.cli.console import PlainConsole
    from watcher.cli.report_tables import tables

    console = PlainConsole()
    for number, (title, table) in enumerate(tables(document)):
        console.print(*([""] if number else []), title, table, sep="\n")


def _print_csv(level: ServiceLevel) -> None:
    lines = list(csv_lines(level))
    writer = csv.writer(sys.stdout)  # lines end with CR LF, as RFC 4180 has it
    writer.writerow(lines[-1])
    writer.writerows([csv_cell(value) for value in line.values()] for line in lines)
