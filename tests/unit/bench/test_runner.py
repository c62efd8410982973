"""The order of runs, and sides that fail or cannot be had."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import Failed, Unavailable
from bench.measure import Aim, Curve, Figure, Sample, Side, check_done
from bench.rig import Rig
from bench.runner import run_measure, runs_of
from bench.sizes import Sizes


@dataclass
class Fake:
    """A measure of two sides; `broken` sides raise, `lossy` ones lose a task."""

    broken: dict[str, Exception] = field(default_factory=dict)
    lossy: str = ""
    order: list[str] = field(default_factory=list)
    missing: str = ""

    name = "fake"
    title = "fake"
    figures = (Figure("n", "n"),)
    aims: Sequence[Aim] = ()
    curves: Sequence[Curve] = ()

    def sides(self, rig: Rig) -> Sequence[Side]:
        return [Side("a", against="b"), Side("b")]

    @asynccontextmanager
    async def ground(self, rig: Rig) -> AsyncIterator[None]:
        if self.missing:
            raise Unavailable(self.missing)
        yield

    async def run(self, side: Side, ground: None, folder: Path) -> Sample:
        _claim(folder)
        self.order.append(side.name)
        if side.name in self.broken:
            raise self.broken[side.name]
        return Sample({"n": len(self.order)}, 1, 0 if side.name == self.lossy else 1)

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)


def _claim(folder: Path) -> None:
    """Leave a file in a folder that must be empty."""
    assert list(folder.iterdir()) == []
    (folder / "left").touch()


def rig(tmp_path: Path) -> Rig:
    return Rig((), Sizes(repeats=3), Path("anvil"), tmp_path, tmp_path)


async def test_sides_run_in_turn_and_turn_back(tmp_path: Path) -> None:
    measure = Fake()
    result = await run_measure(measure, rig(tmp_path), lambda _: None)
    assert "".join(measure.order) == "abbaab"
    assert [len(side.samples) for side in result.sides] == [3, 3]
    assert runs_of(measure, rig(tmp_path)) == 6


async def test_a_side_that_loses_a_task_has_no_result(tmp_path: Path) -> None:
    result = await run_measure(Fake(lossy="a"), rig(tmp_path), lambda _: None)
    assert [side.name for side in result.sides] == ["b"]
    assert result.skipped[0].failed
    assert result.skipped[0].reason == "a did 0 of 1 tasks"


async def test_a_side_that_fails_leaves_the_others_running(tmp_path: Path) -> None:
    measure = Fake(broken={"b": Failed("broken")})
    result = await run_measure(measure, rig(tmp_path), lambda _: None)
    assert "".join(measure.order) == "abaa"
    assert [(item.side, item.reason, item.failed) for item in result.skipped] == [("b", "broken", True)]


async def test_a_side_that_cannot_be_had_is_no_failure(tmp_path: Path) -> None:
    result = await run_measure(Fake(broken={"b": Unavailable("no npm")}), rig(tmp_path), lambda _: None)
    assert [(item.side, item.reason, item.failed) for item in result.skipped] == [("b", "no npm", False)]


async def test_a_measure_without_its_ground_is_left_out(tmp_path: Path) -> None:
    result = await run_measure(Fake(missing="no compiler"), rig(tmp_path), lambda _: None)
    assert list(result.sides) == []
    assert [(item.side, item.reason, item.failed) for item in result.skipped] == [("", "no compiler", False)]
