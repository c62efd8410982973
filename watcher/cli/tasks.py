"""`watcher tasks`: the tasks of the ledger, and manual changes to them."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from watcher.abi.json_form import as_text
from watcher.cli.avs import of_all, of_one
from watcher.cli.bare_ledger import LedgerFile, SourceName, open_to_read
from watcher.cli.options import DEFAULT_CONFIG, Config, Index, Json, OptionalIndex, ledger, load, person, print_json
from watcher.cli.reasons import Reasons
from watcher.cli.selection import AnsweredBy, Blocks, InState, Reason, Since, Until, task_filter
from watcher.cli.task_list import Limit, list_tasks
from watcher.daemon.decoder import value_decoder
from watcher.ledger import queries
from watcher.ledger.finding import listed_rows, matching
from watcher.ledger.reader import Reader
from watcher.report.listing import story_fields, value_fields
from watcher.report.payload import Decoder
from watcher.report.task_columns import fields_of
from watcher.state import State
from watcher.text import escape

_RETRIED_AT_ONCE = 500  # tasks in one transaction

app = typer.Typer(help="List, show, retry or skip tasks.", no_args_is_help=True)


app.command("list")(of_all(list_tasks))


@app.command()
@of_one
def show(
    index: Index,
    config: Config = DEFAULT_CONFIG,
    ledger_file: LedgerFile = None,
    source: SourceName = None,
    as_json: Json = False,
) -> None:
    """Show one task with every change of its state and every attempt."""
    with open_to_read(config, ledger_file, source) as opened:
        reader = opened.reader
        known = reader.read_now(queries.tasks_at, opened.source_id, index)
        rows = reader.read_now(listed_rows, [row.id for row in known])
        causes = Reasons(reader, opened.source_id, opened.settings).of(rows)
        decoder = Decoder() if opened.settings is None else value_decoder(opened.settings)
        tasks = [
            fields_of(row, cause)
            | value_fields(row, decoder)
            | story_fields(*reader.read_now(queries.story_of, row.id))
            for row, cause in zip(rows, causes, strict=True)
        ]
        _print(tasks, as_json=as_json)


def _print(tasks: list[dict[str, Any]], *, as_json: bool) -> None:
    from rich.table import Table

    from watcher.cli.console import PlainConsole

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
@of_one
def retry(
    index: OptionalIndex = None,
    config: Config = DEFAULT_CONFIG,
    state: InState = None,
    since: Since = None,
    until: Until = None,
    blocks: Blocks = None,
    answered_by: AnsweredBy = None,
    reason: Reason = None,
    limit: Limit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Retry a task that failed, was skipped or was set aside; make a waiting one due now.

    With filters instead of INDEX, every task that matches: `watcher tasks retry --state failed --since 2h`.
    """
    from watcher.ledger import manual
    from watcher.ledger.store import write_once

    selected = task_filter(state, since, until, blocks, answered_by, reason)
    if (index is None) == selected.is_everything:
        raise typer.BadParameter("name one task by INDEX, or several by filters such as --state failed")
    settings = load(config, reading_only=True)
    with ledger(settings) as (reader, source_id):
        if index is not None and not dry_run:
            task_state = write_once(settings.ledger.url, manual.retry, source_id, index, person())
            typer.echo(f"task {index} is {task_state} and due now")
            return
        ids = (
            [reader.read_now(queries.tasks_at, source_id, index)[0].id]
            if index is not None
            else reader.read_now(matching, source_id, selected, limit)
        )
        _retry_all(reader, settings.ledger.url, source_id, ids, dry_run=dry_run)


def _retry_all(reader: Reader, url: str, source_id: int, ids: Sequence[int], *, dry_run: bool) -> None:
    """Retry tasks (row ids) in transactions of a page each, and print what became of them."""
    from watcher.ledger import manual
    from watcher.ledger.store import write_once

    counts: Counter[str] = Counter()
    for start in range(0, len(ids), _RETRIED_AT_ONCE):
        page = ids[start : start + _RETRIED_AT_ONCE]
        if dry_run:
            for row in reader.read_now(listed_rows, page):
                target = manual.retry_target(State(row.state))
                counts["would be retried" if target else "left as they are"] += 1
                change = f"would be {target} and due" if target else "stays"
                typer.echo(f"task {row.task_index} is {row.state}: {change}")
        else:
            counts.update(write_once(url, manual.retry_each, source_id, page, person()))
    typer.echo(", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "no task matches")


@app.command()
@of_one
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
        state = write_once(settings.ledger.url, manual.skip, source_id, index, escape(reason)[:200], person())
    typer.echo(f"task {index} is {state}")
