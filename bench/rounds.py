"""The runs of the sides in turn, each in a new process.

Other load of the machine then meets neighbouring runs alike, so ratios are taken pair by pair.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.run_spec import Measured, RunSpec

_RUN_TIMEOUT_S = 600
Results = Mapping[str, Sequence[Measured]]
Progress = Callable[[str], None]


class Failed(Exception):
    """A run ended without a result; the message has the end of its output."""


def alternate(
    specs: Sequence[RunSpec], repeats: int, environment: Mapping[str, str], directory: Path, progress: Progress
) -> Results:
    """Run every spec `repeats` times, in the order A B C, C B A, A B C ...

    Args:
        specs: the runs to repeat.
        repeats: how often.
        environment: added to the environment of each run.
        directory: where the runs' folders go.
        progress: gets a line before each run.

    Raises:
        Failed: a run ended without a result.
    """
    results: dict[str, list[Measured]] = {spec.side: [] for spec in specs}
    for repeat in range(repeats):
        for spec in specs if repeat % 2 == 0 else reversed(specs):
            progress(f"{spec.side}, {repeat + 1} of {repeats}")
            results[spec.side].append(_run(spec, environment, directory))
    return results


def _run(spec: RunSpec, environment: Mapping[str, str], directory: Path) -> Measured:
    with tempfile.TemporaryDirectory(dir=directory, prefix="run-") as folder:
        output = Path(folder) / "stderr"
        with output.open("wb") as stderr:
            done = subprocess.run(
                [sys.executable, "-m", "bench.child", replace(spec, directory=folder).to_json()],
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **environment},
                timeout=_RUN_TIMEOUT_S,
                check=False,
            )
        if done.returncode:
            raise Failed(f"{spec.side} ended with code {done.returncode}: {output.read_text()[-1500:]}")
    return Measured.from_json(done.stdout.decode().splitlines()[-1])
