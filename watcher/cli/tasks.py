"""`watcher tasks`: what the ledger holds, and a person's hand on it."""

import itertools
import json
import sys
from typing import Annotated

import typer
from rich.table import Table

from watcher.cli.console import PlainConsole
from watcher.cli.options import DEFAULT_CONFIG, Config, Index, Json, ledger, load, print_json
from watcher.ledger import queries
from watcher.report.listing import story_fields, task_fields
from watcher.state import State
from watcher.text import escape

app = typer.Typer(help="List, show, retry or skip tasks.", no_args_is_help=True)

_SHOWN = 16  # characters of a long hex value in a table


@app.command("list")
def list_tasks(
    config: Config = DEFAULT_CONFIG,
    state: Annotated[State | None, typer.Option(help="Only tasks in this state.")] = None,
    as_json: Json = False,
) -> None:
    """Every task the ledger knows, in the order of their indices."""
    settings = load(config, reading_only=True)
    with ledger(settings) as (reader, source_id):
        rows = reader.stream(queries.list_tasks, source_id, state)
        fields = map(task_fields, rows)
        if as_json:
            sys.stdout.write("[")
            for separator, one in zip(itertools.chain(["\n"], itertools.repeat(",\n")), fields, strict=False):
                sys.stdout.write(separator + json.dumps(one))
            sys.stdout.write("\n]\n")
            return
        table = Table("task", "state", "created", "deadline", "attempts", "response", "on chain in", "error")
        for one in fields:
            table.add_row(
                str(one["task_index"]),
                one["state"] if one["canonical"] else f"{one['state']} (off chain)",
                str(one["task_created_block"]),
                str(one["deadline_block"] or one["deadline_at"] or "none"),
                str(one["attempts"]),
                _short(one["response"]),
                _short(one["responded_tx_hash"]),
                escape(one["error"] or "")[:60],
            )
        PlainConsole().print(table)


@app.command()
def show(index: Index, config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """One task whole: what it is, every move it made and every attempt."""
    settings = load(config, reading_only=True)
    with ledger(settings) as (reader, source_id):
        found = reader.read_now(queries.tasks_at, source_id, index)
        whole = [task_fields(row) | story_fields(*reader.read_now(queries.story_of, row.id)) for row in found]
    if as_json:
        print_json(whole)
        return
    console = PlainConsole()
    for one in whole:
        for name, value in one.items():
            if not isinstance(value, list):
                shown = "" if value is None else escape(str(value))  # on one line, whatever is in it
                console.print(f"{name:>20}  {shown}", soft_wrap=True)
        journal = Table("when", "from", "to", "why", title="journal")
        for line in one["journal"]:
            journal.add_row(line["at"], line["from"] or "", line["to"], escape(line["why"]))
        attempts = Table("when", "what", "no.", "outcome", "HTTP", "ms", "words", title="attempts")
        for line in one["attempt_log"]:
            attempts.add_row(
                line["began_at"],
                line["kind"] if line["api"] is None else f"{line['kind']} {line['api']}",
                str(line["number"]),
                line["outcome"] or "cut off",
                str(line["http_status"] or ""),
                str(line["duration_ms"] if line["duration_ms"] is not None else ""),
                escape(line["words"] or "")[:80],
            )
        console.print(journal)
        console.print(attempts)


@app.command()
def retry(index: Index, config: Config = DEFAULT_CONFIG) -> None:
    """Take up again what failed, was skipped or was set aside; hurry up what waits."""
    from watcher.ledger import manual
    from watcher.ledger.store import write_once

    settings = load(config, reading_only=True)
    with ledger(settings) as (_, source_id):
        state = write_once(settings.ledger.url, manual.retry, source_id, index)
    typer.echo(f"task {index} is {state} and due now")


@app.command()
def skip(
    index: Index,
    config: Config = DEFAULT_CONFIG,
    reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "",
) -> None:
    """Leave a task unanswered that was not sent yet."""
    from watcher.ledger import manual
    from watcher.ledger.store import write_once

    settings = load(config, reading_only=True)
    with ledger(settings) as (_, source_id):
        state = write_once(settings.ledger.url, manual.skip, source_id, index, escape(reason)[:200])
    typer.echo(f"task {index} is {state}")


def _short(value: str | None) -> str:
    if value is None:
        return ""
    return value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"
