"""`watcher audit`: the record against its audit chain, the roots of its days, and the bundle for a third party."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from watcher.cli.avs import of_all, of_one
from watcher.cli.bare_ledger import LedgerFile, OpenLedger, SourceName, open_to_read
from watcher.cli.options import DEFAULT_CONFIG, Config, Json, print_json
from watcher.clock import SystemClock
from watcher.errors import TryLater
from watcher.ledger.audit.check import Check, Checker
from watcher.ledger.audit.copies import compare_copies
from watcher.ledger.audit.roots import Root, compare, published, roots
from watcher.ledger.audit.structure import differences
from watcher.ledger.service_level import identity
from watcher.report.audit_roots import read_roots, root_fields
from watcher.report.listing import time_of
from watcher.text import escape, to_hex

app = typer.Typer(help="Check the record for edits, print its roots, export it.", no_args_is_help=True)

_PROBLEMS_SHOWN = 50

RootFiles = Annotated[
    list[Path] | None,
    typer.Option("--roots", help="A file of published roots; may be given several times. They prove what was there."),
]


@app.command()
@of_one
def root(
    config: Config = DEFAULT_CONFIG,
    day: Annotated[str, typer.Option(help="Only this day in UTC, such as 2026-11-30.")] = "",
    calldata: Annotated[
        bool, typer.Option("--calldata", help="Print the data of a transaction that anchors the newest of them.")
    ] = False,
    file: LedgerFile = None,
    source: SourceName = None,
    as_json: Json = False,
) -> None:
    """Print the Merkle root of each day of the record; that of today grows until midnight (UTC).

    Give them to somebody who keeps them, or anchor one: any account may send a transaction with the calldata.
    """
    with open_to_read(config, file, source) as opened:
        chain_id, task_manager = opened.reader.read_now(identity, opened.source_id)
        every = list(opened.reader.stream(roots, opened.source_id, SystemClock().now_ms()))
    chosen = [each for each in every if day in ("", each.day)]
    if not chosen:
        raise TryLater(f"the record has no entry of {day}" if day else "the record has no entry yet")
    if calldata:
        typer.echo(to_hex(chosen[-1].calldata))
        return
    fields = [root_fields(each, chain_id, task_manager) for each in chosen]
    if as_json:
        print_json(fields)
        return
    for each, line in zip(chosen, fields, strict=True):
        open_day = "" if each.is_complete else ", not over"
        typer.echo(f"{each.day}  {line['root']}  entries {each.first_seq} to {each.last_seq}{open_day}")


@app.command()
@of_all
def verify(
    config: Config = DEFAULT_CONFIG,
    root_files: RootFiles = None,
    file: LedgerFile = None,
    source: SourceName = None,
    as_json: Json = False,
) -> None:
    """Check every row of the record against the audit chain, and the chain against published roots.

    Tables, indices, views and triggers are compared with those of this program, kept counts with the rows.

    Exits 1 if anything was edited, removed or added by other hands. Whoever can write the ledger can also make the
    chain anew: only roots that were published before (--roots) show that.
    """
    with open_to_read(config, file, source) as opened, _progress() as follow:
        known = _known(opened, root_files or [])
        check = opened.reader.read_now(check_ledger, opened.source_id, known, follow)
    if as_json:
        print_json(check_fields(check, len(known)))
    else:
        _print(check, len(known))
    if not check.ok:
        raise typer.Exit(1)


@app.command()
@of_one
def export(
    to: Annotated[Path, typer.Argument(help="The bundle to make; must not exist.")],
    config: Config = DEFAULT_CONFIG,
    file: LedgerFile = None,
    source: SourceName = None,
) -> None:
    """Write the whole record into one file for a third party, who checks it with `python -m watcher.verify`.

    A ledger file alone does not say how the contract counts and hashes: such a bundle is compared with the chain's logs
    and not with the contract's own words.
    """
    from watcher.cli.bundle_header import bare_header, bundle_header
    from watcher.report.bundle import export as export_now

    with open_to_read(config, file, source) as opened:
        header = bare_header() if opened.settings is None else bundle_header(opened.settings)
        lines = export_now(opened.reader, opened.source_id, SystemClock().now_ms(), header, to)
    if opened.settings is None:
        typer.echo(
            "without settings: the bundle does not name the contract's views, events and convention, so that nobody can"
            " compare the number of tasks and the contract's hashes; export with --config for that",
            err=True,
        )
    typer.echo(f"wrote {lines} lines to {to}; check it: python -m watcher.verify {to} --rpc URL --roots ROOTS")


def _known(opened: OpenLedger, files: list[Path]) -> dict[str, Root]:
    """Return the roots to compare with: those that the ledger says it has published, and those of the files."""
    chain_id, task_manager = opened.reader.read_now(identity, opened.source_id)
    known = {
        f"published {time_of(row.published_at_ms)}": Root(row.day, row.first_seq, row.last_seq, row.root, row.head_hash)
        for row in opened.reader.read_now(published, opened.source_id)
    }
    for file in files:
        known |= read_roots(file, chain_id, task_manager)
    return known


def check_ledger(
    conn: Any,
    source_id: int,
    known: Mapping[str, Root],
    follow: Callable[[int, int], None] = lambda _done, _total: None,
) -> Check:
    """Return what `watcher audit verify` finds. `known` are published roots by where they are from."""
    checker = Checker(conn, source_id, follow)  # first: from here on all is read from one commit
    check, of_structure = checker.check, differences(conn)
    check.structure_compared = of_structure is not None
    for problem in of_structure or ():
        check.add(problem)
    if not any(problem.table for problem in check.problems):  # else the rows cannot be read
        checker.run()
        compare(conn, source_id, check, known)
        compare_copies(conn, source_id, check)
    return check


def check_fields(check: Check, roots_compared: int) -> dict[str, Any]:
    """Return the object that `watcher audit verify --json` prints. Fields are added, never renamed or removed."""
    return {
        "entries": check.entries,
        "last_seq": check.last_seq,
        "last_hash": to_hex(check.last_hash),
        "bound_since": time_of(check.first_at_ms),
        "rows": check.rows,
        "not_bound_yet": check.unbound,
        "removed_by_rule": check.removed,
        "roots_compared": roots_compared,
        "structure_compared": check.structure_compared,
        "problem_count": check.problem_count,
        "problems": [asdict(problem) for problem in check.problems],
        "ok": check.ok,
    }


def _print(check: Check, roots_compared: int) -> None:
    for problem in check.problems[:_PROBLEMS_SHOWN]:
        typer.echo(f"{problem.kind}: {escape(problem.message)}")
    if check.problem_count > _PROBLEMS_SHOWN:
        typer.echo(f"and {check.problem_count - _PROBLEMS_SHOWN} more; --json has the first thousand")
    if check.entries:
        typer.echo(
            f"{_counted(check.rows, 'row')} and {_counted(check.entries, 'entry', 'entries')} compared, bound since "
            f"{time_of(check.first_at_ms)}; {_counted(roots_compared, 'published root')}"
        )
    else:
        typer.echo("no row was compared: a table or the chain was removed, or the daemon has not begun a chain yet")
    if not check.structure_compared:
        typer.echo("tables, indices, views and triggers were not compared: the ledger is of a newer program")
    if check.unbound:
        typer.echo(f"{_counted(check.unbound, 'row')} of before the chain not bound yet; the daemon binds them")
    if check.removed:
        typer.echo(f"{_counted(check.removed, 'row')} removed by retention or by a reorg, as entries say")
    if not roots_compared:
        typer.echo("no published root was compared: a chain made anew would not show (see --roots)")
    verdict = "EDITED" if check.entries else "NOT PROVEN"
    typer.echo("nothing was edited" if check.ok else f"{verdict}: {_counted(check.problem_count, 'problem')}")


def _counted(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


@contextmanager
def _progress() -> Iterator[Any]:
    """Give a function that shows the progress of a long check to a person."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import Progress

    from watcher.cli.console import PlainConsole

    with Progress(console=PlainConsole(to_stderr=True), transient=True) as bar:
        reading = bar.add_task("reading the chain", total=None)
        yield lambda done, total: bar.update(reading, completed=done, total=total)
