"""The report of the shadow: its runs beside those of the live hook, counted, timed and decoded.

Invariant: memory is bounded by the number of runs that the ledger keeps, and by `kept` differences.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from watcher.ledger.shadow import ANSWERED, FAILED
from watcher.report.listing import hexed, time_of
from watcher.report.payload import PART_LIMIT_BYTES, Decoder, Payload, first_difference

KEPT_LIMIT = 1000
_VERSIONS_LIMIT = 20
_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Difference:
    """A task on which the hooks differ. Durations are milliseconds; `first_byte` is the first byte that differs."""

    task_index: int
    task_hash: str | None
    message: Payload
    live_outcome: str
    outcome: str
    live: Payload | None
    shadow: Payload | None
    first_byte: int | None
    reason: str
    live_version: str | None
    version: str
    live_duration_ms: int | None
    duration_ms: int
    at: str | None


@dataclass(slots=True)
class ShadowReport:
    """The report. The field names of `as_json` are an interface: fields are only added.

    `dropped` counts the tasks that the shadow was too slow for since it was set; `kept` differences are kept at most.
    """

    dropped: int = 0
    kept: int = KEPT_LIMIT
    counts: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    live_versions: Counter[str] = field(default_factory=Counter)
    shadow_ms: list[int] = field(default_factory=list)
    live_ms: list[int] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    first_at_ms: int | None = None
    last_at_ms: int | None = None

    @property
    def runs(self) -> int:
        return self.counts.total()

    @property
    def ok(self) -> bool:
        """True if the shadow came to the result of the live hook on every task."""
        return self.counts["agrees"] == self.runs

    def add(self, rows: Iterable[Any], decoder: Decoder) -> None:
        """Count runs, as `stored_runs` returns them: newest first."""
        for row in rows:
            self.counts["agrees" if row.agrees else "failed" if row.outcome == FAILED else "differs"] += 1
            self.versions[row.version] += 1
            if row.live_version is not None:
                self.live_versions[row.live_version] += 1
            if row.outcome == ANSWERED:
                self.shadow_ms.append(row.duration_ms)
            if row.live_outcome == ANSWERED and row.live_duration_ms is not None:
                self.live_ms.append(row.live_duration_ms)
            if not row.agrees and len(self.differences) < self.kept:
                self.differences.append(_difference(row, decoder))
            self.last_at_ms = row.at_ms if self.last_at_ms is None else self.last_at_ms
            self.first_at_ms = row.at_ms

    def as_json(self) -> dict[str, Any]:
        """Return the object that `watcher shadow report --json` prints."""
        differing = self.runs - self.counts["agrees"]
        return {
            "versions": _most(self.versions),
            "live_versions": _most(self.live_versions),
            "runs": self.runs,
            "agrees": self.counts["agrees"],
            "differs": self.counts["differs"],
            "failed": self.counts["failed"],
            "dropped": self.dropped,
            "shadow_ms": percentiles(self.shadow_ms),
            "live_ms": percentiles(self.live_ms),
            "first_at": time_of(self.first_at_ms),
            "last_at": time_of(self.last_at_ms),
            "ok": self.ok,
            "differences": [asdict(difference) for difference in self.differences],
            "differences_left_out": differing - len(self.differences),
        }


def percentiles(durations_ms: Sequence[int]) -> dict[str, int | None]:
    """Return p50, p95 and p99 of durations in milliseconds, None without any."""
    ordered = sorted(durations_ms)
    return {f"p{share}": ordered[-(-len(ordered) * share // 100) - 1] if ordered else None for share in _PERCENTILES}


def _most(versions: Counter[str]) -> list[str]:
    return [version for version, _ in versions.most_common(_VERSIONS_LIMIT)]


def _difference(row: Any, decoder: Decoder) -> Difference:
    live = row.live_response if row.live_outcome == ANSWERED else None
    return Difference(
        task_index=row.task_index,
        task_hash=hexed(row.task_hash),
        message=decoder.payload_of_message(row.message[:PART_LIMIT_BYTES]),
        live_outcome=row.live_outcome,
        outcome=row.outcome,
        live=decoder.part_of_answer(live),
        shadow=decoder.part_of_answer(row.response),
        first_byte=None if live is None or row.response is None else first_difference(live, row.response),
        reason=row.words,
        live_version=row.live_version,
        version=row.version,
        live_duration_ms=row.live_duration_ms,
        duration_ms=row.duration_ms,
        at=time_of(row.at_ms),
    )
