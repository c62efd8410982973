"""The results as tables: rows of text, which the terminal and the page lay out."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench import machine
from bench.results import MeasureResult, Results
from bench.summary import Spread, quotients, values, verdicts

_RELATIONS = {"value": "", "times": " times {against}", "plus": " above {against}"}


@dataclass(frozen=True, slots=True)
class Rows:
    """A table: its header, its rows, and the lines below it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def rows_of(result: MeasureResult) -> Rows:
    """Return the table of a measure: medians, with the lowest and the highest run in brackets."""
    figures = [figure for figure in result.figures if any(values(side, figure.key) for side in result.sides)]
    main = result.figures[0].key
    compared = any(side.against for side in result.sides)
    rows = []
    for side in result.sides:
        cells = [_cell(values(side, figure.key), figure.digits) for figure in figures]
        quotient = quotients(result, side, main)
        cells += [_cell(quotient, 2) + f" {side.against}" if quotient else ""] if compared else []
        rows.append([side.name, *cells])
    header = [
        "",
        *(figure.label for figure in figures),
        *([f"{figures[0].label}, times"] if compared and figures else []),
    ]
    return Rows(header, rows, notes_of(result))


def notes_of(result: MeasureResult) -> list[str]:
    """Return what was achieved of the aims, what was skipped, and the conditions."""
    notes = [_aim(result, number) for number in range(len(verdicts(result)))]
    notes += [f"Left out: {item.side or 'all'}: {item.reason.strip().splitlines()[0]}" for item in result.skipped]
    seen = result.conditions
    repeats = max((len(side.samples) for side in result.sides), default=0)
    busy = "; other work disturbed it" if machine.is_busy(seen.load_before) else ""
    runs = "one run" if repeats == 1 else f"{repeats} runs"
    notes.append(
        f"{seen.date}, commit {seen.commit}, Python {seen.python}, {seen.cores} cores, load {seen.load_before} before "
        f"and {seen.load_after} after{busy}; {runs} of each side, {result.seconds:.0f} s."
    )
    return notes


def show(results: Results, console: Console) -> None:
    """Print all measures."""
    for result in results.measures.values():
        table, rows = Table(title=result.title, title_justify="left"), rows_of(result)
        for number, name in enumerate(rows.header):
            table.add_column(name, justify="right" if number else "left")
        for row in rows.rows:
            table.add_row(*row)
        console.print(table)
        for note in rows.notes:
            console.print("  " + note, markup=False)
        console.print()


def _aim(result: MeasureResult, number: int) -> str:
    verdict = verdicts(result)[number]
    aim, side = verdict.aim, result.side(verdict.aim.side)
    assert side is not None
    label = next(figure for figure in result.figures if figure.key == aim.figure).label
    bound = "at least" if aim.at_least else "at most"
    relation = _RELATIONS[aim.relation].format(against=side.against)
    state = "met" if verdict.is_met else "missed"
    return f"Aim {state}: {aim.side}: {label}: {_number(verdict.value, 2)}{relation}, {bound} {aim.bound:g}."


def _cell(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return ""
    texts = [_number(number, digits) for number in (spread.median, spread.low, spread.high)]
    return texts[0] if texts[1] == texts[2] else f"{texts[0]} ({texts[1]} to {texts[2]})"


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"
