"""`watcher tasks`: the tasks of the ledger, and manual changes to them."""

import itertools
import json
import sys
from typing import Annotated, Any

import typer

from watcher.abi.json_form import as_text
from watcher.cli.options import DEFAULT_CONFIG, Config, Index, Json, ledger, load, print_json
from watcher.cli.table import write_table
from watcher.daemon.decoder import value_decoder
from watcher.ledger import queries
from watcher.report.listing import pages, second_of, story_fields, task_fields, value_fields
from watcher.state import State
from watcher.text import escape, to_hex

app = typer.Typer(help="List, show, retry or skip tasks.", no_args_is_help=True)

_HEX_LIMIT_CHARS = 16  # characters of a long hex value in a table
_ERROR_LIMIT_CHARS = 60  # characters
_COLUMNS = ("task", "state", "created", "deadline", "attempts", "response", "on chain in", "error")


@app.command("list")
def list_tasks(
    config: Config = DEFAULT_CONFIG,
    state: Annotated[State | None, typer.Option(help="Only tasks in this state.")] = None,
    as_json: Json = False,
) -> None:
    """List every task of the ledger, by index."""
    settings = load(config, reading_only=True)
    with ledger(settings) as (reader, source_id):
        rows = pages(reader, source_id, state)
        if not as_json:
            write_table(_COLUMNS, map(_cells, rows))
            return
        sys.stdout.write("[")
        for separator, row in zip(itertools.chain(["\n"], itertools.repeat(",\n")), rows, strict=False):
            sys.stdout.write(separator + json.dumps(task_fields(row)))
        sys.stdout.write("\n]\n")


@app.command()
def show(index: Index, config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Show one task with every change of its state and every attempt."""
    from rich.table import Table

    from watcher.cli.console import PlainConsole

    settings = load(config, reading_only=True)
    with ledger(settings) as (reader, source_id):
        rows = reader.read_now(queries.tasks_at, source_id, index)
        decoder = value_decoder(settings)
        tasks = [
            task_fields(row) | value_fields(row, decoder) | story_fields(*reader.read_now(queries.story_of, row.id))
            for row in rows
        ]
    if as_json:
        print_json(tasks)
        return
    console = PlainConsole()
    for task in tasks:
        for name, value in task.items():
            if name not in ("journal", "attempt_log"):
                text = "" if value is None else as_text(value) if name.endswith("_value") else str(value)
                text = escape(text)  # so that it stays on one line
                console.print(f"{name:>20}  {text}", soft_wrap=True)
        journal = Table("when", "from", "to", "why", title="journal")
        for line in task["journal"]:
            journal.add_row(line["at"], line["from"] or "", line["to"], escape(line["why"]))
        attempts = Table("when", "what", "no.", "outcome", "HTTP", "ms", "words", title="attempts")
        for line in task["attempt_log"]:
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
    """Retry a task that failed, was skipped or was set aside; make a waiting one due now."""
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
    """Leave a task without an answer, if none was sent yet."""
    from watcher.ledger import manual
    from watcher.ledger.store import write_once

    settings = load(config, reading_only=True)
    with ledger(settings) as (_, source_id):
        state = write_once(settings.ledger.url, manual.skip, source_id, index, escape(reason)[:200])
    typer.echo(f"task {index} is {state}")


def _cells(row: Any) -> tuple[str, ...]:
    """Return the cells of a task's row in the list."""
    deadline = second_of(row.deadline_s) if row.deadline_block is None else row.deadline_block
    return (
        str(row.task_index),
        row.state if row.canonical else f"{row.state} (off chain)",
        str(row.created_block),
        "none" if deadline is None else str(deadline),
        str(row.attempts),
        _short(row.response),
        _short(row.responded_tx_hash),
        (row.error or "")[:_ERROR_LIMIT_CHARS],
    )


def _short(data: bytes | None) -> str:
    if data is None:
        return ""
    text = to_hex(data[:_HEX_LIMIT_CHARS])
    return text if len(text) <= _HEX_LIMIT_CHARS else text[: _HEX_LIMIT_CHARS - 1] + "…"
