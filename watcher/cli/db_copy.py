"""`watcher db copy` and `watcher db reopen`: a ledger moves to another database, and back."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlalchemy.engine import URL

from watcher.cli.options import DEFAULT_CONFIG, Config, Json, load, print_json
from watcher.errors import FixConfiguration, FixUsage
from watcher.ledger.engine import parse_url
from watcher.text import escape, to_hex

if TYPE_CHECKING:
    from watcher.ledger.transfer import SourceAudit, Transfer
    from watcher.report.proof import Proof


def copy(
    source: Annotated[str, typer.Argument(help="The ledger, as in ledger.url: sqlite:///PATH or postgresql://...")],
    target: Annotated[str, typer.Argument(help="Where it goes: an empty database, or the one that it came from.")],
    prove: Annotated[
        bool, typer.Option("--prove", help="Prove it by the contract before and after, with the nodes of the settings.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Move the ledger to another database, row by row, with its audit chain; then no daemon opens the old one.

    Cut short, the same command goes on. Give a password by PGPASSWORD or ~/.pgpass: others see command lines.
    """
    from random import SystemRandom

    from watcher.ledger.move import name_of
    from watcher.ledger.transfer import transfer

    from_url, to_url = _ledger_url(source, "SOURCE"), _ledger_url(target, "TARGET")
    names = name_of(from_url), name_of(to_url)
    proofs = [_proof(config, from_url)] if prove else []
    if all(proof.ok for proof in proofs):
        with _progress() as follow:
            done = transfer(from_url, to_url, SystemRandom(), follow)
        if not as_json:
            _print(done, *names)
        proofs += [_proof(config, to_url)] if prove else []
        fields = _fields(done, *names)
    else:
        fields = {"from": names[0], "to": names[1], "ok": False}
    if as_json:
        print_json({**fields, "proofs": [proof.as_json() for proof in proofs]})
    else:
        _print_proofs(proofs)
    if not all(proof.ok for proof in proofs):
        typer.echo(f"{escape(names[len(proofs) - 1])} is not proven by the contract", err=True)
        raise typer.Exit(1)


def _ledger_url(text: str, argument: str) -> URL:
    try:
        return parse_url(text)
    except FixConfiguration as error:
        raise FixUsage(str(error).replace("ledger.url", argument, 1)) from None
    except ValueError:  # as of a port that is no number
        raise FixUsage(f"{argument}: not a database URL; use sqlite:///path or postgresql://host/name") from None


def _proof(config: Path, url: URL) -> "Proof":
    from rich.progress import Progress

    from watcher.cli.console import PlainConsole
    from watcher.cli.prove import prove_now

    settings = load(config, reading_only=True, overrides={"ledger.url": url.render_as_string(hide_password=False)})
    with Progress(console=PlainConsole(to_stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        return asyncio.run(prove_now(settings, bar))


def _print_proofs(proofs: Sequence["Proof"]) -> None:
    if proofs:
        from watcher.cli.proof_table import print_proof
    for side, proof in zip(("before", "after"), proofs, strict=False):
        typer.echo(f"{side} the copy:")
        print_proof(proof)


def _print(done: "Transfer", source: str, target: str) -> None:
    typer.echo(f"copied {sum(done.rows.values())} rows of {len(done.rows)} tables, {done.resumed} of them before")
    for before, after in zip(done.before, done.after, strict=True):
        manager = f"{to_hex(before.task_manager)} on chain {before.chain_id}"
        root = "none" if before.root is None else f"{to_hex(before.root.root)} ({before.root.day})"
        typer.echo(
            f"{manager}: {after.check.entries} audit entries, head {to_hex(after.check.last_hash)}, "
            f"newest root {root}, the same on both sides"
        )
        if not before.check.ok:
            typer.echo(
                f"EDITED before it was copied: {before.check.problem_count} problems; see `watcher audit verify`"
            )
    typer.echo(f"{escape(source)} is left: no daemon opens it. Set ledger.url to {escape(target)}")


def reopen(
    config: Config = DEFAULT_CONFIG,
    force: Annotated[
        bool, typer.Option("--force", help="The ledger that took over is lost or stopped for good.")
    ] = False,
) -> None:
    """Open a ledger again that was left. The next start holds back every task without an answer in it."""
    from watcher.ledger import move
    from watcher.ledger.lock import sole_writer

    if not force:
        raise FixUsage(
            "the ledger that took over may send answers, and this one others; copy it back with `watcher db copy`, or "
            "say with --force that it is lost or stopped for good"
        )
    url = parse_url(load(config, reading_only=True).ledger.url)
    with sole_writer(url):
        peer = move.reopen(url)
    typer.echo(f"opened again; the tasks that {escape(peer)} may have answered are held back at the next start")


def _fields(done: "Transfer", source: str, target: str) -> dict[str, Any]:
    """Return the object that `--json` prints. Fields are added, never renamed or removed."""
    return {
        "from": source,
        "to": target,
        "rows": sum(done.rows.values()),
        "rows_copied_before": done.resumed,
        "tables": dict(done.rows),
        "contracts": [
            {
                "chain_id": before.chain_id,
                "task_manager": to_hex(before.task_manager),
                "before": _audit_fields(before),
                "after": _audit_fields(after),
            }
            for before, after in zip(done.before, done.after, strict=True)
        ],
        "ok": all(each.check.ok for each in done.after),
    }


def _audit_fields(audit: "SourceAudit") -> dict[str, Any]:
    root = audit.root
    return {
        "entries": audit.check.entries,
        "last_seq": audit.check.last_seq,
        "last_hash": to_hex(audit.check.last_hash),
        "rows": audit.check.rows,
        "problem_count": audit.check.problem_count,
        "day": None if root is None else root.day,
        "root": None if root is None else to_hex(root.root),
    }


@contextmanager
def _progress() -> Iterator[Any]:
    """Give a function that shows the progress to a person."""
    if not sys.stderr.isatty():
        yield lambda _step, _rows, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from watcher.cli.console import PlainConsole

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=PlainConsole(to_stderr=True), transient=True) as bar:
        steps: dict[str, Any] = {}

        def follow(step: str, rows: int, total: int) -> None:
            if step not in steps:
                steps[step] = bar.add_task(step, total=total)
            bar.advance(steps[step], rows)

        yield follow
