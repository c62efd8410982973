"""JSON lines: one record a line, handed to the kernel at once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


def write_line(file: TextIO, **fields: Any) -> None:
    file.write(json.dumps(fields) + "\n")
    file.flush()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records in order; a last line that was cut is none."""
    if not path.exists():
        return
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
