"""Counts of the ledger's work, for health and metrics.

Invariant: the cost grows with the open tasks and the new journal lines, never with the ended tasks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile

from sqlalchemy import BigInteger, Connection, and_, bindparam, case, func, not_, or_, select, update

from watcher.ledger.columns import Few
from watcher.ledger.cursor import Cursor
from watcher.ledger.ended import expired_before, kept
from watcher.ledger.journal_range import last_move
from watcher.ledger.prepared import Question
from watcher.ledger.queries import cursor as read_cursor
from watcher.ledger.tables import OPEN, events, journal, sources, tasks
from watcher.ledger.transaction import Tx
from watcher.state import UNSETTLED, State

# A quarter of the time is left once three times as much is spent.
_DANGER_PART = 3
# Less time than this is short for signatures and a transaction, whatever the window.
_ALWAYS_NEAR_MS = 15_000
# So many accepted answers in a row without one on the chain are a condition.
UNSHOWN_LIMIT = 5
_UNSHOWN_COUNTED = 100
_LINES = 2000  # of the journal, the newest
_WAITING = sorted({State.READY, State.COMPUTED, State.WAITING})


@dataclass(frozen=True, slots=True)
class Unshown:
    """The accepted answers that the chain has not shown since the last one that it showed.

    `task_index` and `why` belong to the newest of them.
    """

    count: int = 0
    task_index: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """The open work of one source at one moment. Blocks are heights, times milliseconds since 1970.

    `nearest_deadline_block` and `nearest_deadline_s` (seconds since 1970) cover the unanswered tasks with an open
    window, by the kind of their deadline; `endangered` counts those with at most `danger_blocks` left,
    `endangered_by_time` those close to a deadline that is a time. `oldest_seen_ms` covers the tasks that wait for the
    hook or for their POST, `oldest_due_ms` those of them that are due.
    """

    cursor: Cursor
    open_by_state: Mapping[State, int]
    nearest_deadline_block: int | None
    endangered: int
    oldest_seen_ms: int | None
    oldest_due_ms: int | None
    last_move: int
    nearest_deadline_s: int | None = None
    endangered_by_time: int = 0
    unshown: Unshown = Unshown()
    held_back: int = 0
    held_to_block: int = -1

    @property
    def held_message(self) -> str:
        """Return the condition of a restored ledger that holds tasks back, "" if it holds none and will not."""
        if self.held_to_block < 0 or not (self.held_back or self.cursor.block < self.held_to_block):
            return ""
        tasks = "1 task" if self.held_back == 1 else f"{self.held_back} tasks"
        return (
            f"the ledger is an older copy, or was moved: it may not know what was sent for tasks up to block "
            f"{self.held_to_block}; {tasks} without an answer held back until the deadline"
        )


def work(
    conn: Connection,
    source_id: int,
    now_ms: int,
    danger_blocks: int,
    danger_s: float = 0.0,
    chain_s: float | None = None,
    held_to_block: int = -1,
    before: Work | None = None,
) -> Work:
    """Return the open work of a source.

    Args:
        conn: a connection.
        source_id: the task manager.
        now_ms: this machine's time.
        danger_blocks: a task with at most so many blocks left is endangered.
        danger_s: a task with at most so many seconds left is endangered.
        chain_s: the chain's time in seconds since 1970, for deadlines that are times; None: this machine's time.
        held_to_block: unanswered tasks up to this block are held back, and wait neither for hook nor POST.
        before: what this question returned last; what follows from the journal alone is taken from it, if that has no
            new line.
    """
    chain_s = now_ms / 1000 if chain_s is None else chain_s
    cursor, newest = read_cursor(conn, source_id), last_move(conn)
    rows = _OPEN_WORK.rows(
        conn,
        source_id,
        now_ms,
        int(chain_s),
        int(chain_s * 1000),
        cursor.head_block,
        cursor.head_closed_block,
        danger_blocks,
        int(danger_s * 1000),
        held_to_block,
    )
    is_known = before is not None and before.last_move == newest
    return Work(
        cursor=cursor,
        open_by_state={State(row[0]): row[1] for row in rows},
        nearest_deadline_block=_least(row[2] for row in rows),
        endangered=sum(row[3] for row in rows),
        oldest_seen_ms=_least(row[4] for row in rows),
        oldest_due_ms=_least(row[5] for row in rows),
        last_move=newest,
        nearest_deadline_s=_least(row[6] for row in rows),
        endangered_by_time=sum(row[7] for row in rows),
        unshown=before.unshown if before is not None and is_known else unshown(conn, source_id),
        held_back=sum(row[8] for row in rows),
        held_to_block=held_to_block,
    )


def _open_work() -> Question:
    """Return the question for the open tasks by state. Built once: it is asked every second."""
    names = "source", "now_ms", "chain_s", "chain_ms", "head", "closed", "danger_blocks", "danger_ms", "held_to"
    _, now_ms, chain_s, chain_ms, head, closed, danger_blocks, danger_ms, held_to = (
        bindparam(name, type_=BigInteger()) for name in names
    )
    unanswered = and_(tasks.c.canonical, tasks.c.state.in_(sorted(UNSETTLED)))
    in_time = or_(tasks.c.deadline_s.is_(None), tasks.c.deadline_s > chain_s)
    in_window = and_(or_(tasks.c.deadline_block.is_(None), tasks.c.deadline_block > closed), in_time)
    is_held = and_(tasks.c.response.is_(None), tasks.c.block_number <= held_to)
    held_back = and_(unanswered, in_window, is_held)
    waits = and_(tasks.c.canonical, tasks.c.state.in_(_WAITING), in_window, not_(is_held))
    due = and_(waits, tasks.c.due_at_ms <= now_ms, tasks.c.due_block <= head, tasks.c.lease_until_ms <= now_ms)
    is_endangered = and_(unanswered, tasks.c.deadline_block > closed, tasks.c.deadline_block <= closed + danger_blocks)
    # The time left counts in the chain's time and the time spent in this machine's, so that a chain with another time
    # gives the same result.
    left_ms, spent_ms = tasks.c.deadline_s * 1000 - chain_ms, now_ms - tasks.c.seen_at_ms
    is_last_part = or_(left_ms * _DANGER_PART <= spent_ms, left_ms <= _ALWAYS_NEAR_MS)
    near_in_time = and_(unanswered, in_window, left_ms <= danger_ms, is_last_part)
    of_states = (
        select(
            tasks.c.state,
            func.count(),
            func.min(case((and_(unanswered, in_window), tasks.c.deadline_block))),
            func.sum(case((is_endangered, 1), else_=0)),
            func.min(case((waits, tasks.c.seen_at_ms))),
            func.min(case((due, tasks.c.due_at_ms))),
            func.min(case((and_(unanswered, in_window), tasks.c.deadline_s))),
            func.sum(case((near_in_time, 1), else_=0)),
            func.sum(case((held_back, 1), else_=0)),
        )
        .where(tasks.c.source_id == bindparam("source"), OPEN)
        .group_by(tasks.c.state)
    )
    return Question(of_states, names)


_OPEN_WORK = _open_work()


def unshown(conn: Connection, source_id: int) -> Unshown:
    """Return the accepted answers that the chain does not show, from the newest journal lines."""
    rows = _NEWEST_LINES.rows(conn, source_id)
    lost = list(takewhile(lambda row: row[0] == State.WAITING, rows))
    return Unshown(len(lost), lost[0][1], lost[0][2]) if lost else Unshown()


_NEWEST_LINES = Question(
    select(journal.c.to_state, tasks.c.task_index, journal.c.why)
    .join(tasks, tasks.c.id == journal.c.task_id)
    .where(
        Few(journal.c.id > select(func.max(journal.c.id)).scalar_subquery() - _LINES),
        tasks.c.source_id + 0 == bindparam("source"),  # as in `rows.of_source`
        or_(
            and_(journal.c.from_state == State.ACCEPTED, journal.c.to_state == State.WAITING),
            journal.c.to_state == State.RESPONDED,
        ),
    )
    .order_by(journal.c.id.desc())
    .limit(_UNSHOWN_COUNTED),
    ["source"],
)


def ended(conn: Connection, source_id: int) -> tuple[dict[State, int], int]:
    """Return the number of tasks in each end state, and the journal line up to which they count.

    Tasks that expired before the ledger was begun are left out.
    """
    upto, counts = last_move(conn), kept(conn, source_id)
    if before := expired_before(conn, source_id):
        counts[State.EXPIRED] = counts.get(State.EXPIRED, 0) - before
    return {state: count for state, count in counts.items() if count}, upto


def finality_broken(conn: Connection, source_id: int) -> bool:
    """Return True if a final block has changed."""
    query = select(events.c.id).where(events.c.source_id == source_id, events.c.kind == "finality broken").limit(1)
    return conn.execute(query).first() is not None


def touch(tx: Tx, source_id: int) -> None:
    """Write a value that is there already, to prove that the database is writable."""
    tx.conn.execute(update(sources).where(sources.c.id == source_id).values(start_block=sources.c.start_block))


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)
