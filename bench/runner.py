"""The runs of a measure: all sides in turn, A B C, then C B A, each run in an empty folder.

Other load of the machine then meets neighbouring runs alike, so quotients are taken run by run.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import machine
from bench.errors import Failed, Unavailable
from bench.listener import prepare
from bench.measure import Measure, Sample, Side
from bench.results import MeasureResult, SideResult, Skipped
from bench.rig import Rig
from watcher.errors import WatcherError

Progress = Callable[[str], None]


async def run_measure(measure: Measure[Any], rig: Rig, progress: Progress) -> MeasureResult:
    """Run a measure. A side that cannot run, or fails, is left out of the result with the reason.

    Args:
        measure: the measure.
        rig: programs, sizes and folders.
        progress: gets a line before each run.
    """
    began_s = time.monotonic()
    runs = _Runs(measure, rig, progress)
    try:
        async with measure.ground(rig) as ground:
            await runs.all(ground)
    except Unavailable as error:
        runs.skipped.append(Skipped("", str(error)))
    except (Failed, WatcherError, OSError) as error:
        runs.skipped.append(Skipped("", str(error), failed=True))
    return MeasureResult(
        name=measure.name,
        title=measure.title,
        conditions=machine.conditions(rig.commit, rig.load_before),
        sizes=rig.sizes,
        seconds=round(time.monotonic() - began_s, 1),
        figures=tuple(measure.figures),
        sides=runs.results(),
        skipped=tuple(runs.skipped),
        aims=tuple(measure.aims) if rig.with_peers else (),
        curves=tuple(measure.curves),
    )


def runs_of(measure: Measure[Any], rig: Rig) -> int:
    """Return the number of runs that a measure takes."""
    return len(measure.sides(rig)) * rig.sizes.repeats


class _Runs:
    """The runs of one measure so far."""

    def __init__(self, measure: Measure[Any], rig: Rig, progress: Progress) -> None:
        self._measure, self._rig, self._progress = measure, rig, progress
        self._sides = list(measure.sides(rig))
        self._samples: dict[str, list[Sample]] = {side.name: [] for side in self._sides}
        self.skipped: list[Skipped] = []

    async def all(self, ground: Any) -> None:
        for side in tuple(self._sides):
            await self._prepare(side)
        repeats = self._rig.sizes.repeats
        for repeat in range(repeats):
            for side in tuple(self._sides if repeat % 2 == 0 else reversed(self._sides)):
                self._progress(f"{self._measure.name}: {side.name}, {repeat + 1} of {repeats}")
                await self._run(side, ground)

    def results(self) -> Sequence[SideResult]:
        """Return the sides whose runs have all succeeded."""
        return tuple(
            SideResult(side.name, side.line, side.against, side.x, tuple(self._samples[side.name]))
            for side in self._sides
            if self._samples[side.name]
        )

    async def _prepare(self, side: Side) -> None:
        try:
            await prepare(side, self._rig.cache)
        except Unavailable as error:
            self._leave_out(side, str(error))

    async def _run(self, side: Side, ground: Any) -> None:
        with tempfile.TemporaryDirectory(dir=self._rig.folder, prefix="run-", ignore_cleanup_errors=True) as folder:
            try:
                sample = await self._measure.run(side, ground, Path(folder))
                self._measure.check(side, sample)
            except Unavailable as error:
                self._leave_out(side, str(error))
            except (Failed, WatcherError, OSError) as error:  # a time-out is an OSError
                self._leave_out(side, str(error) or type(error).__name__, failed=True)
            else:
                self._samples[side.name].append(sample)

    def _leave_out(self, side: Side, reason: str, *, failed: bool = False) -> None:
        self._sides.remove(side)
        self.skipped.append(Skipped(side.name, reason, failed))
