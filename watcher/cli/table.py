"""A table of any length for people, written row by row. rich lays a table out as a whole, at a millisecond a row."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from watcher.text import escape

# So many rows decide on the widths of the columns; a longer cell further down makes its own line longer.
_MEASURED = 500


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to stdout. Control characters of the cells are spelled out."""
    encoding = sys.stdout.encoding or "utf-8"
    is_unicode = encoding.lower().startswith("utf")
    for line in lines(header, rows, "│" if is_unicode else "|"):
        # A character that the terminal's encoding lacks becomes a question mark.
        sys.stdout.write((line if is_unicode else line.encode(encoding, "replace").decode(encoding)) + "\n")


def lines(header: Sequence[str], rows: Iterable[Sequence[str]], bar: str) -> Iterator[str]:
    """Yield the lines of a table; `bar` separates the cells."""
    cells = ([escape(cell) for cell in row] for row in rows)
    first = list(islice(cells, _MEASURED))
    widths = [max(map(len, column)) for column in zip(header, *first, strict=True)]
    form = bar + "".join(f" {{:<{width}}} {bar}" for width in widths)
    yield "".join(" " + name.ljust(width) + "  " for name, width in zip(header, widths, strict=True)).rstrip()
    for row in chain(first, cells):
        yield form.format(*row)
