"""The JSON fields and the CSV lines of a service level: an interface, to which fields are added only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from watcher.report.availability import Availability
from watcher.report.distribution import Distribution
from watcher.report.listing import hexed, time_of
from watcher.report.service_level import SHARES, Level, Result, ServiceLevel

_ADDRESSES_TOLD = 20


@dataclass(frozen=True, slots=True)
class Subject:
    """The contract of a report, the moment at which it was made (milliseconds since 1970), and the ledger's marks."""

    chain_id: int
    task_manager: str
    made_ms: int
    cursor_block: int
    final_block: int


def document_of(subject: Subject, level: ServiceLevel, availability: Availability) -> dict[str, Any]:
    """Return the object that `watcher report --json` prints. Times are ISO 8601 in UTC, durations seconds."""
    return {
        "chain_id": subject.chain_id,
        "task_manager": subject.task_manager,
        "made_at": time_of(subject.made_ms),
        "cursor_block": subject.cursor_block,
        "final_block": subject.final_block,
        **_level(level.total),
        "answered_by": list(responders(level)),
        "attempts": {
            "posts_per_task": {posts_name(posts): level.posts[posts] for posts in sorted(level.posts)},
            "outcomes": list(outcomes(level)),
        },
        "window_blocks": _spread(level.windows_blocks, 1),
        "not_in_time": [
            {
                "task_index": task.task_index,
                "result": task.result,
                "deadline_block": task.deadline_block,
                "reason": task.reason,
            }
            for task in level.unanswered
        ],
        "not_in_time_left_out": level.unanswered_left_out,
        "answers_without_a_time": level.untimed,
        "answers_without_attempts": level.without_story,
        "availability": _availability(availability),
        "steps": [_level(step) for step in level.steps],
    }


def _level(level: Level) -> dict[str, Any]:
    return {
        "since": time_of(level.begin_ms),
        "until": time_of(level.end_ms),
        "tasks": level.tasks,
        **{result.value: level.results[result] for result in Result},
        "decided": level.decided,
        "in_time": level.in_time,
        "in_time_share": _rounded(level.in_time_share),
        "by_us_share": _rounded(level.by_us_share),
        "creation_to_post_s": _spread(level.to_post_ms),
        "post_to_chain_s": _spread(level.post_to_chain_ms),
        "creation_to_chain_s": _spread(level.to_chain_ms),
        "creation_to_chain_blocks": _spread(level.to_chain_blocks, 1),
    }


def _spread(distribution: Distribution, unit: int = 1000) -> dict[str, Any]:
    """Return count, percentiles and the largest value, divided by `unit`."""
    values = {**distribution.percentiles(SHARES), "max": distribution.largest}
    fields = {name: value if value is None or unit == 1 else value / unit for name, value in values.items()}
    return {"count": distribution.total, **fields}


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def responders(level: ServiceLevel) -> Iterator[dict[str, Any]]:
    """Yield the addresses that sent responses, the busiest first, as JSON; null is an unknown address or all others."""
    by_address: dict[bytes | None, list[int]] = {}
    for (address, is_ours), count in level.responders.items():
        by_address.setdefault(address, [0, 0])[is_ours] += count
    busiest = sorted(by_address.items(), key=lambda item: (-sum(item[1]), item[0] or b""))
    for address, (other, ours) in busiest[:_ADDRESSES_TOLD]:
        yield {"address": hexed(address), "tasks": ours + other, "with_our_answer": ours, "with_another": other}


def outcomes(level: ServiceLevel) -> Iterator[dict[str, Any]]:
    """Yield the attempts by kind, outcome and HTTP status, the most frequent first, as JSON."""
    for (kind, outcome, status), count in level.outcomes.most_common():
        yield {"kind": kind, "outcome": outcome or "cut off", "http_status": status, "attempts": count}


def posts_name(posts: int) -> str:
    """Return a number of POSTs for one task; the last class has more."""
    return str(posts) if posts < 10 else "10 or more"


def _availability(seen: Availability) -> dict[str, Any]:
    return {
        "known_s": seen.known_ms / 1000,
        "unknown_s": seen.unknown_ms / 1000,
        "parts": [
            {
                "part": part.key,
                "share": _rounded(part.share),
                "outages": part.outages,
                "down_s": part.down_ms / 1000,
                "longest_s": part.longest_ms / 1000,
            }
            for part in seen.parts
        ],
        "outages": [
            {
                "part": outage.key,
                "began_at": time_of(outage.began_ms),
                "ended_at": time_of(outage.ended_ms),
                "seconds": (outage.ended_ms - outage.began_ms) / 1000,
                "reason": outage.reason,
            }
            for outage in seen.outages
        ],
        "outages_left_out": seen.left_out,
    }


def csv_lines(level: ServiceLevel) -> Iterator[Mapping[str, Any]]:
    """Yield a line for each step and one for the whole time, as flat values in the same columns."""
    for name, part in (*(("step", step) for step in level.steps), ("total", level.total)):
        line: dict[str, Any] = {"row": name}
        for field, value in _level(part).items():
            if isinstance(value, dict):
                line |= {f"{field}_{share}": number for share, number in value.items() if share != "count"}
            else:
                line[field] = value
        yield line
