"""`watcher db`: the ledger's schema and its copies."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from watcher.cli import db_copy
from watcher.cli.avs import of_all, of_one
from watcher.cli.options import DEFAULT_CONFIG, Config, Json, ledger, load, no_ledger, print_json
from watcher.errors import FixConfiguration, FixUsage
from watcher.ledger.engine import parse_url, sqlite_path
from watcher.ledger.reader import Reader
from watcher.text import escape

_DAY_MS = 24 * 3600 * 1000

app = typer.Typer(help="Upgrade, check, copy or shorten the ledger.", no_args_is_help=True)
app.command("copy")(of_one(db_copy.copy))
app.command("reopen")(of_one(db_copy.reopen))


@app.command()
@of_all
def upgrade(config: Config = DEFAULT_CONFIG) -> None:
    """Upgrade the ledger to this program's schema, after a copy of it. `watcher run` does the same at its start."""
    from watcher.ledger import schema
    from watcher.ledger.lock import sole_writer

    url = parse_url(load(config, reading_only=True).ledger.url)
    with sole_writer(url):
        before = schema.upgrade(url)
    if before.is_usable:
        typer.echo(f"nothing to do: the ledger has schema {before.current}")
    else:
        typer.echo(f"upgraded the ledger from {before.current or 'nothing'} to {before.expected}")


@app.command()
@of_all
def check(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Read every page of the ledger, compare its schema with this program's, and count the ended tasks again."""
    from watcher.ledger import ended, schema
    from watcher.ledger.engine import integrity

    url = parse_url(load(config, reading_only=True).ledger.url)
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise no_ledger(path)
    state = schema.check(url)
    damage = integrity(url)
    miscounted = []
    if state.is_usable and not damage:
        with closing(Reader(url)) as reader:
            miscounted = reader.read_now(ended.miscounted)
    ok = not damage and not miscounted
    if as_json:
        print_json(
            {
                "current": state.current,
                "wanted": state.expected,
                "damage": damage,
                "miscounted": miscounted,
                "ok": ok,
            }
        )
    else:
        typer.echo(f"schema {state.current or 'none'}, this program's is {state.expected}")
        typer.echo("every page is intact" if not damage else f"damaged: {escape(damage)}")
        for difference in miscounted:
            typer.echo(f"miscounted: {difference}")
    if not ok:
        raise typer.Exit(1)
    if not state.is_usable:
        raise FixConfiguration("ledger.url: the schema is older than this program; run `watcher db upgrade`")


@app.command()
@of_one
def backup(
    target: Annotated[Path | None, typer.Argument(help="The copy to make; must not exist.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Instead: a folder; the copy's name has the time.")] = None,
    keep: Annotated[int, typer.Option(min=1, help="With --to: the number of such copies to keep.")] = 14,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Copy the ledger, also while the daemon runs, and check the copy."""
    from watcher.ledger.backup import copy_named, copy_to

    if (target is None) == (to is None):
        raise FixUsage("name either the copy to make, or with --to the folder for it")
    path = sqlite_path(parse_url(load(config, reading_only=True).ledger.url))
    if path is None:
        raise FixUsage("this ledger is not SQLite; copy it with the database's own tools (pg_dump)")
    if not path.exists():
        raise no_ledger(path)
    if target is not None:
        copy_to(path, target)
        typer.echo(f"copied {path} to {target}")
        return
    assert to is not None
    copy, removed = copy_named(path, to, keep)
    typer.echo(f"copied {path} to {copy}" + (f", removed {len(removed)} older copies" if removed else ""))


@app.command()
@of_one
def retain(
    to: Annotated[Path, typer.Option("--to", help="The folder for the exports.")],
    older_than_blocks: Annotated[
        int | None, typer.Option(min=0, help="Tasks created at least so many blocks below the final block.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=0, help="Tasks that have not changed for so many days.")] = None,
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="Then return the space to the disk; only while no daemon runs.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Move the journal and attempts of old final tasks into compressed files, also while the daemon runs.

    Task, answer and outcome stay in the ledger, and `watcher prove` proves as much as before.
    """
    from watcher.clock import SystemClock
    from watcher.ledger.retention import Age
    from watcher.report.archive import retain as retain_now

    if older_than_blocks is None and days is None:
        raise FixUsage("name an age: --older-than-blocks or --days, or both")
    settings = load(config, reading_only=True)
    before_ms = None if days is None else SystemClock().now_ms() - days * _DAY_MS
    with ledger(settings) as (reader, source_id):
        exports = retain_now(reader, settings.ledger.url, source_id, Age(older_than_blocks, before_ms), to)
    if as_json:
        print_json([{**asdict(export), "path": str(export.path)} for export in exports])
    for export in () if as_json else exports:
        indices = f"{export.first_index} to {export.last_index}"
        typer.echo(f"moved journal and attempts of {export.tasks} tasks ({indices}) to {export.path}")
    if not exports and not as_json:
        typer.echo("no task is that old")
    if vacuum:
        _vacuum(settings.ledger.url, quiet=as_json)


def _vacuum(ledger_url: str, *, quiet: bool) -> None:
    from watcher.ledger.engine import vacuum_sqlite
    from watcher.ledger.lock import sole_writer

    url = parse_url(ledger_url)
    path = sqlite_path(url)
    if path is None:
        raise FixUsage("this ledger is not SQLite; PostgreSQL vacuums on its own")
    with sole_writer(url):
        before_bytes, after_bytes = vacuum_sqlite(path)
    if not quiet:
        typer.echo(f"the ledger takes {after_bytes} bytes, it took {before_bytes}")
