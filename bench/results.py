"""The results of measures, and their file: one schema for all measures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bench.errors import Failed
from bench.machine import Conditions
from bench.measure import Aim, Curve, Figure, Sample
from bench.sizes import Sizes

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class SideResult:
    """The runs of one side, in order. The n-th run of each side ran beside the n-th of the others."""

    name: str
    line: str
    against: str
    x: float
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A side, or a whole measure (`side` is ""), without a result."""

    side: str
    reason: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class MeasureResult:
    """One measure: its conditions, sizes, sides, aims and drawings."""

    name: str
    title: str
    conditions: Conditions
    sizes: Sizes
    seconds: float
    figures: Sequence[Figure]
    sides: Sequence[SideResult]
    skipped: Sequence[Skipped] = ()
    aims: Sequence[Aim] = ()
    curves: Sequence[Curve] = ()

    def side(self, name: str) -> SideResult | None:
        """Return the side of this name, None if it has no result."""
        return next((side for side in self.sides if side.name == name), None)


@dataclass(slots=True)
class Results:
    """All measures so far, by name."""

    schema: int = SCHEMA
    measures: dict[str, MeasureResult] = field(default_factory=dict)


_ADAPTER = TypeAdapter(Results)


def read(file: Path) -> Results:
    """Return the results in a file, empty ones without it. Raises Failed if it has another schema."""
    if not file.exists():
        return Results()
    try:
        results = _ADAPTER.validate_json(file.read_bytes())
    except ValidationError as error:
        raise Failed(f"{file} has no results of schema {SCHEMA}: {error.errors()[0]['msg']}; remove it") from None
    if results.schema != SCHEMA:
        raise Failed(f"{file} has results of schema {results.schema}, not {SCHEMA}; remove it")
    return results


def to_json(results: Results) -> bytes:
    """Return the results as JSON."""
    return _ADAPTER.dump_json(results, indent=1) + b"\n"


def write(results: Results, file: Path) -> None:
    """Write the results, so that a reader never meets half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_bytes(to_json(results))
    draft.replace(file)
