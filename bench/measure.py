"""The parts of a measure: its sides, the figures it takes of each, its aims and its curves."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from bench.errors import Failed
from bench.program import Program
from bench.rig import Rig

Ground = TypeVar("Ground")
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity that each run yields. `digits` after the point are shown."""

    key: str
    label: str
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Side:
    """One of the things that are compared.

    Attributes:
        name: its name in tables, unique in the measure.
        line: its line in curves.
        against: the name of the side that it is compared with; "": none.
        program: the watcher that it runs; None: it runs none.
        peer: the peer whose environment it needs; "": none.
        x: its place on the axis of curves (requests at a time, tasks in the ledger); 0: none.
    """

    name: str
    line: str = ""
    against: str = ""
    program: Program | None = None
    peer: str = ""
    x: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The result of one run of one side.

    Attributes:
        values: figure by key.
        expected: the number of tasks that the run should have done.
        done: the number that it has done, each exactly once.
        series: points by name, for curves within one run.
    """

    values: Mapping[str, float]
    expected: int
    done: int
    series: Mapping[str, Sequence[Point]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound for the median of a figure of a side: of the value, of its quotient or its difference to `against`."""

    side: str
    figure: str
    relation: Literal["value", "times", "plus"]
    bound: float
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """A drawing: a figure over the places of the sides (`figure`), or a series of the runs (`series`)."""

    file: str
    title: str
    x_label: str
    y_label: str
    figure: str = ""
    series: str = ""
    log_x: bool = False
    log_y: bool = False


class Measure(Protocol[Ground]):
    """One measure. The runner calls `sides`, then `ground` once, then `run` and `check` for each run in turn."""

    @property
    def name(self) -> str:
        """The name for --only."""

    @property
    def title(self) -> str:
        """The title of its table."""

    @property
    def figures(self) -> Sequence[Figure]:
        """What each run yields; quotients are taken of the first."""

    @property
    def aims(self) -> Sequence[Aim]:
        """The aims; may be empty."""

    @property
    def curves(self) -> Sequence[Curve]:
        """The drawings; may be empty."""

    def sides(self, rig: Rig) -> Sequence[Side]:
        """Return the sides, in the order of the table."""

    def ground(self, rig: Rig) -> AbstractAsyncContextManager[Ground]:
        """Provide what all runs share: the chain, the API, filled ledgers. Raises Unavailable, and Failed."""

    async def run(self, side: Side, ground: Ground, folder: Path) -> Sample:
        """Run a side once in an empty folder. Raises Failed without a result."""

    def check(self, side: Side, sample: Sample) -> None:
        """Raise Failed if the run has not done all of its work."""


def check_done(side: Side, sample: Sample) -> None:
    """Raise Failed if the run has not done each of its tasks exactly once."""
    if sample.done != sample.expected:
        raise Failed(f"{side.name} did {sample.done} of {sample.expected} tasks")
