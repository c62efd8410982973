"""The picture of `make demo` in the README: the output of a real run, as SVG.

`python -m docs.generate.demo_picture` runs the demo and writes `docs/demo.svg`.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

PICTURE = Path(__file__).parents[1] / "demo.svg"
_COLUMNS = 100


def picture(output: str) -> str:
    """Return the SVG of a terminal that shows `output`."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO())
    console.print("[bold]$ make demo[/bold]")
    console.print(output, markup=False)
    return console.export_svg(title="make demo")


def main() -> None:
    """Write the picture.

    Raises:
        CalledProcessError: the demo failed.
    """
    command = [str(Path(sys.executable).with_name("watcher")), "demo"]
    variables = {**os.environ, "COLUMNS": str(_COLUMNS), "NO_COLOR": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)  # noqa: S603
    PICTURE.write_text(picture(done.stdout))


if __name__ == "__main__":
    main()
