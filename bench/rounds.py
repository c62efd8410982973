"""Runs the sides in turn, each run in a fresh process, and keeps what they measured.

Whatever else the machine does then falls on neighbours alike, which is why ratios are taken pair by pair.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.order import Measured, Order

_RUN_TIMEOUT_S = 600
Results = Mapping[str, Sequence[Measured]]
Progress = Callable[[str], None]


class Failed(Exception):
    """A run ended without a measurement; the words are the end of what it said."""


def alternate(
    orders: Sequence[Order], repeats: int, environment: Mapping[str, str], directory: Path, progress: Progress
) -> Results:
    """Run every order `repeats` times: A B C, C B A, A B C ... Raises Failed."""
    results: dict[str, list[Measured]] = {order.side: [] for order in orders}
    for repeat in range(repeats):
        for order in orders if repeat % 2 == 0 else reversed(orders):
            progress(f"{order.side}, {repeat + 1} of {repeats}")
            results[order.side].append(_run(order, environment, directory))
    return results


def _run(order: Order, environment: Mapping[str, str], directory: Path) -> Measured:
    with tempfile.TemporaryDirectory(dir=directory, prefix="run-") as folder:
        said = Path(folder) / "stderr"
        with said.open("wb") as stderr:
            done = subprocess.run(
                [sys.executable, "-m", "bench.child", replace(order, directory=folder).to_json()],
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **environment},
                timeout=_RUN_TIMEOUT_S,
                check=False,
            )
        if done.returncode:
            raise Failed(f"{order.side} ended with code {done.returncode}: {said.read_text()[-1500:]}")
    return Measured.from_json(done.stdout.decode().splitlines()[-1])
