"""The response events that answer tasks, chosen among those of their indices.

None is older than its task. Where the contract stores a hash for each answer, the event has that hash; where it stores
none, the first event counts, if it precedes the next canonical task of the same index.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.engine import Row

from watcher.ledger.rows import chunks, responded_of
from watcher.ledger.tables import responses, tasks
from watcher.task import Responded, Sighting

# Some nodes give two logs of a block one index: equal places count as the same log.
_Place = tuple[int, int]  # block, log index

_EVENTS = (
    select(responses)
    .where(
        responses.c.source_id == bindparam("source"),
        responses.c.task_index.in_(bindparam("indices", expanding=True)),
    )
    .order_by(responses.c.block_number, responses.c.log_index)
)
_TASKS = (
    select(tasks.c.task_index, tasks.c.block_number, tasks.c.log_index)
    .where(
        tasks.c.source_id == bindparam("source"),
        tasks.c.task_index.in_(bindparam("indices", expanding=True)),
        tasks.c.canonical,
    )
    .order_by(tasks.c.block_number, tasks.c.log_index)
)


@dataclass(frozen=True, slots=True)
class AnsweredTask:
    """An answered task: its index, its log, and the hash of its answer, None if the contract stores none."""

    task_index: int
    since: Sighting
    response_hash: bytes | None


def answer_events(
    conn: Connection, source_id: int, answered: Sequence[AnsweredTask], upto_block: int | None = None
) -> list[Responded | None]:
    """Return the event that answers each task, None where the ledger does not have it. No event is behind `upto_block`.

    One statement for the events of 500 indices, and one for the later tasks of those without a hash.
    """
    ends = _successors(conn, source_id, [task for task in answered if task.response_hash is None])
    places = _by_index(answered)
    events: list[Responded | None] = [None] * len(answered)
    for chunk in chunks(sorted(places)):
        for row in conn.execute(_EVENTS, {"source": source_id, "indices": chunk}):
            if upto_block is not None and row.block_number > upto_block:
                continue
            for place in places[row.task_index]:
                if events[place] is None and _answers(row, answered[place], ends.get(answered[place])):
                    events[place] = responded_of(row)
    return events


def _answers(row: Row[tuple[object, ...]], task: AnsweredTask, end: _Place | None) -> bool:
    at = (row.block_number, row.log_index)
    if at < _place(task.since):
        return False
    if task.response_hash is not None:
        return bool(row.response_hash == task.response_hash)
    return end is None or at < end


def _successors(conn: Connection, source_id: int, answered: Sequence[AnsweredTask]) -> Mapping[AnsweredTask, _Place]:
    """Return the place of the next canonical task with the same index, where the contract has used it again."""
    places = _by_index(answered)
    ends: dict[AnsweredTask, _Place] = {}
    for chunk in chunks(sorted(places)):
        for row in conn.execute(_TASKS, {"source": source_id, "indices": chunk}):
            at = (row.block_number, row.log_index)
            for place in places[row.task_index]:
                if at > _place(answered[place].since):
                    ends.setdefault(answered[place], at)
    return ends


def _by_index(answered: Iterable[AnsweredTask]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for place, task in enumerate(answered):
        places.setdefault(task.task_index, []).append(place)
    return places


def _place(seen: Sighting) -> _Place:
    return (seen.block_number, seen.log_index)
