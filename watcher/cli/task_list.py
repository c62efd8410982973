"""`watcher tasks list`: the tasks that match some filters, as a table, CSV or JSON."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import typer

from watcher.cli.bare_ledger import LedgerFile, OpenLedger, SourceName, open_to_read
from watcher.cli.live_screen import is_live, run_live
from watcher.cli.options import DEFAULT_CONFIG, Config, Json
from watcher.cli.reasons import COLUMNS, Reasons
from watcher.cli.selection import AnsweredBy, Blocks, InState, Reason, Since, Until, task_filter
from watcher.cli.table import lines as table_lines
from watcher.cli.table import write_table
from watcher.ledger.finding import PAGE, TaskFilter, listed_columns, matching, untimed_count
from watcher.report.task_columns import CAUSE_FIELDS, FIELDS, TaskPage, columns_of, csv_lines, json_objects, table_rows
from watcher.text import did_you_mean

_CELL_LIMIT_CHARS = 60
_UNTIMED_LIMIT = 1000
_WATCH_EVERY_S = 2.0
# The names of fields in a table that has no --columns.
_TITLES = {
    "task_index": "task",
    "state": "state",
    "task_created_block": "created",
    "task_created_at": "at",
    "deadline_block": "deadline",
    "attempts": "attempts",
    "responded_block": "answered in",
    "responded_tx_hash": "on chain in",
    "reason": "reason",
}
_WIDE_TITLES = {
    "task_index": "task",
    "state": "state",
    "task_created_block": "created",
    "task_created_at": "at",
    "deadline_block": "deadline",
    "deadline_at": "deadline at",
    "attempts": "attempts",
    "response": "response",
    "hook_version": "hook",
    "responded_block": "answered in",
    "responded_at": "answered at",
    "response_blocks": "blocks",
    "response_s": "seconds",
    "responded_by": "answered by",
    "responded_tx_hash": "on chain in",
    "next_at": "next at",
    "next_block": "next block",
    "reason": "reason",
}

Limit = Annotated[int | None, typer.Option(min=1, help="At most so many tasks.")]
Reverse = Annotated[bool, typer.Option("--reverse", help="The highest index first.")]
Wide = Annotated[bool, typer.Option("--wide", help="More columns, and no value cut.")]
Columns = Annotated[str | None, typer.Option(help="These fields of --json, separated by commas.")]
Watch = Annotated[bool, typer.Option("--watch", help="Draw the table anew every 2 s; without a terminal, once.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV (RFC 4180); no cell is a formula to a spreadsheet.")]


def list_tasks(
    config: Config = DEFAULT_CONFIG,
    ledger_file: LedgerFile = None,
    source: SourceName = None,
    state: InState = None,
    since: Since = None,
    until: Until = None,
    blocks: Blocks = None,
    answered_by: AnsweredBy = None,
    reason: Reason = None,
    limit: Limit = None,
    reverse: Reverse = False,
    wide: Wide = False,
    columns: Columns = None,
    as_csv: Csv = False,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """List the tasks of the ledger that match every filter, by index."""
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json exclude each other")
    selected = task_filter(state, since, until, blocks, answered_by, reason)
    if watch and (as_csv or as_json):
        raise typer.BadParameter("--watch draws a table; it takes neither --csv nor --json")
    names = None if columns is None else field_names(columns)
    with open_to_read(config, ledger_file, source) as ledger:
        _warn_of_unknown_times(ledger, selected)
        if watch and is_live():
            form = (names, limit, reverse, wide)
            run_live(lambda _, height: _screen(ledger, selected, form, height), _WATCH_EVERY_S)
            return
        fields = names or list(FIELDS if as_json or as_csv else _WIDE_TITLES if wide else _TITLES)
        pages = task_pages(ledger, selected, fields, limit, reverse=reverse)
        if as_json:
            _write_json(pages, fields)
        elif as_csv:
            _write_csv(pages, fields)
        else:
            _write_table(pages, names, wide=wide)


def field_names(text: str) -> list[str]:
    """Return the fields that `--columns` names, each once. Raises typer.BadParameter for an unknown one."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in FIELDS:
            hint = did_you_mean(name, list(FIELDS))
            raise typer.BadParameter(f"there is no column {name[:80]!r}{hint}; the columns are {', '.join(FIELDS)}")
    return names


def task_pages(
    ledger: OpenLedger, selected: TaskFilter, names: Sequence[str], limit: int | None = None, *, reverse: bool = False
) -> Iterator[TaskPage]:
    """Yield the matching tasks in pages, each from the last commit, with what these fields need.

    Raises TryLater if the ledger cannot be read.
    """
    reader, has_causes = ledger.reader, not CAUSE_FIELDS.isdisjoint(names)
    columns = columns_of(names) + (list(COLUMNS) if has_causes else [])
    reasons = Reasons(reader, ledger.source_id, ledger.settings)
    ids = reader.read_now(matching, ledger.source_id, selected, limit, reverse=reverse)
    for start in range(0, len(ids), PAGE):
        listed = reader.read_now(listed_columns, ids[start : start + PAGE], columns)
        yield TaskPage(listed, reasons.of_columns(listed) if has_causes else ())


def _warn_of_unknown_times(ledger: OpenLedger, selected: TaskFilter) -> None:
    if selected.since_ms is None and selected.until_ms is None:
        return
    count = ledger.reader.read_now(untimed_count, ledger.source_id, _UNTIMED_LIMIT)
    if count:
        many = f"{count} or more" if count == _UNTIMED_LIMIT else str(count)
        typer.echo(f"watcher: the block time of {many} tasks is unknown yet; the time they were seen counts", err=True)


def _write_json(pages: Iterable[TaskPage], names: Sequence[str]) -> None:
    write = sys.stdout.write
    write("[")
    separator = "\n"
    for page in pages:
        objects = ",\n".join(json_objects(page, names))
        if objects:
            write(separator + objects)
            separator = ",\n"
    write("\n]\n")


def _write_csv(pages: Iterable[TaskPage], names: Sequence[str]) -> None:
    sys.stdout.write(",".join(names) + "\r\n")
    for page in pages:
        sys.stdout.writelines(csv_lines(page, names))


def _screen(
    ledger: OpenLedger, selected: TaskFilter, form: tuple[Sequence[str] | None, int | None, bool, bool], height: int
) -> list[str]:
    names, limit, reverse, wide = form
    fields = names or list(_WIDE_TITLES if wide else _TITLES)
    pages = task_pages(ledger, selected, fields, min(limit or height, height), reverse=reverse)
    titles, rows = _table(pages, names, wide=wide)
    return list(table_lines(titles, rows, "|"))


def _write_table(pages: Iterable[TaskPage], names: Sequence[str] | None, *, wide: bool) -> None:
    write_table(*_table(pages, names, wide=wide))


def _table(
    pages: Iterable[TaskPage], names: Sequence[str] | None, *, wide: bool
) -> tuple[list[str], Iterator[Sequence[str]]]:
    """Return the titles and the rows of the table."""
    titles = {name: name for name in names} if names else _WIDE_TITLES if wide else _TITLES
    width_chars = None if wide or names else _CELL_LIMIT_CHARS
    return list(titles.values()), (row for page in pages for row in table_rows(page, list(titles), width_chars))
