"""The tables of a service level on a terminal, from the fields of its JSON document."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Column, Table

from watcher.report.service_level import FAILED, IN_TIME, Result, percent
from watcher.text import duration_text, one_line

_ROWS_SHOWN = 10
_REASON_LIMIT_CHARS = 100
_SHARES = ("p50", "p95", "p99", "max")
_NOTES = {
    Result.OURS: "our answer is on the chain, in time",
    Result.OTHER: "another answer is on the chain, in time",
    Result.DELIVERED: "the API accepted our answer; this contract shows none",
    Result.LATE: "answered behind the deadline",
    Result.MISSED: "the deadline passed without an answer",
    Result.GIVEN_UP: "the hook gave no answer",
    Result.SKIPPED: "the hook or a person decided against an answer; does not count",
    Result.OPEN: "not decided yet; does not count",
    Result.BEFORE: "over before the ledger was begun; does not count",
    Result.OFF_CHAIN: "the chain does not hold the task; does not count",
}


def tables(document: Mapping[str, Any]) -> Iterator[tuple[str, Table]]:
    """Yield title and table, most important first."""
    seen = document["availability"]
    yield f"service level from {document['since']} to {document['until']}", _results(document)
    yield "time to answer", _times(document)
    if document["answered_by"]:
        yield "by whom", _responders(document)
    yield "attempts", _attempts(document)
    known, unknown = duration_text(seen["known_s"] * 1000), duration_text(seen["unknown_s"] * 1000)
    yield f"availability (recorded for {known}; unknown for {unknown})", _availability(seen)
    if seen["outages"]:
        yield "longest outages", _outages(seen)
    if document["not_in_time"]:
        hidden = len(document["not_in_time"]) - _ROWS_SHOWN + document["not_in_time_left_out"]
        yield "not answered in time" + (f" ({hidden} more; --json has them)" if hidden > 0 else ""), _failures(document)


def _table(*names: str, numbers: int = 0) -> Table:
    """Return a table whose last `numbers` columns stand to the right."""
    left = len(names) - numbers
    columns = [
        Column(name, justify="right" if place >= left else "left", no_wrap=place >= left, overflow="fold")
        for place, name in enumerate(names)
    ]
    return Table(*columns, box=None, pad_edge=False)


def _results(document: Mapping[str, Any]) -> Table:
    table = Table(
        Column("tasks", no_wrap=True),
        Column("", justify="right", no_wrap=True),
        Column("", overflow="fold"),
        box=None,
        pad_edge=False,
    )
    table.add_row("answered in time", percent(document["in_time_share"]), _of(document))
    table.add_row("in time, by us", percent(document["by_us_share"]), "")
    for result, note in _NOTES.items():
        if document[result] or result in IN_TIME - {Result.DELIVERED} or result in FAILED:
            table.add_row(result.replace("_", " "), str(document[result]), note)
    return table


def _of(document: Mapping[str, Any]) -> str:
    return f"{document['in_time']} of {document['decided']} that count, {document['tasks']} in all"


def _times(document: Mapping[str, Any]) -> Table:
    table = _table("from", "tasks", "p50", "p95", "p99", "longest", numbers=5)
    for name, text in (
        ("creation_to_post_s", "creation to first POST"),
        ("post_to_chain_s", "first POST to chain"),
        ("creation_to_chain_s", "creation to chain"),
    ):
        spread = document[name]
        cells = ["" if spread[share] is None else duration_text(spread[share] * 1000) for share in _SHARES]
        table.add_row(text, str(spread["count"]), *cells)
    for name, text in (
        ("creation_to_chain_blocks", "creation to chain, blocks"),
        ("window_blocks", "response window, blocks"),
    ):
        spread = document[name]
        cells = ["" if spread[share] is None else str(spread[share]) for share in _SHARES]
        table.add_row(text, str(spread["count"]), *cells)
    return table


def _responders(document: Mapping[str, Any]) -> Table:
    table = _table("sender of the response", "tasks", "with our answer", "with another", numbers=3)
    for line in document["answered_by"][:_ROWS_SHOWN]:
        cells = (line["tasks"], line["with_our_answer"], line["with_another"])
        table.add_row(line["address"] or "unknown", *map(str, cells))
    return table


def _attempts(document: Mapping[str, Any]) -> Table:
    table = _table("kind", "outcome", "HTTP", "attempts", numbers=2)
    for line in document["attempts"]["outcomes"][:_ROWS_SHOWN]:
        table.add_row(line["kind"], line["outcome"], str(line["http_status"] or ""), str(line["attempts"]))
    for posts, count in document["attempts"]["posts_per_task"].items():
        table.add_row("tasks with", f"{posts} POST" + ("" if posts == "1" else "s"), "", str(count))
    return table


def _availability(seen: Mapping[str, Any]) -> Table:
    table = _table("part", "available", "outages", "together", "longest", numbers=4)
    for part in seen["parts"]:
        down, longest = duration_text(part["down_s"] * 1000), duration_text(part["longest_s"] * 1000)
        table.add_row(part["part"], percent(part["share"]), str(part["outages"]), down, longest)
    return table


def _outages(seen: Mapping[str, Any]) -> Table:
    longest = sorted(seen["outages"], key=lambda outage: -outage["seconds"])[:_ROWS_SHOWN]
    table = _table("part", "from", "for", "reason")
    for outage in longest:
        duration = duration_text(outage["seconds"] * 1000)
        table.add_row(outage["part"], outage["began_at"], duration, one_line(outage["reason"], _REASON_LIMIT_CHARS))
    return table


def _failures(document: Mapping[str, Any]) -> Table:
    table = _table("task", "result", "deadline", "last obstacle")
    for task in document["not_in_time"][:_ROWS_SHOWN]:
        deadline = "" if task["deadline_block"] is None else str(task["deadline_block"])
        reason = one_line(task["reason"], _REASON_LIMIT_CHARS)
        table.add_row(str(task["task_index"]), task["result"].replace("_", " "), deadline, reason)
    return table
