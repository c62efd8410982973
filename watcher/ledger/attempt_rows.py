"""Rows of attempts: added with their ids known, and ended with their outcome. Both are bound by the audit chain."""

from collections.abc import Sequence

from sqlalchemy import bindparam, insert, update

from watcher.ledger.audit.changes import Bound
from watcher.ledger.audit.record import COLUMNS
from watcher.ledger.prepared import Prepared, Values
from watcher.ledger.row_ids import new_ids
from watcher.ledger.tables import attempts
from watcher.ledger.transaction import Tx

_COLUMNS = COLUMNS[Bound.ATTEMPTS]
_BEGINNING = _COLUMNS[: _COLUMNS.index("ended_at_ms")]  # what is known before the attempt; the rest, behind it
_END = _COLUMNS[len(_BEGINNING) :]
_NEW = Prepared(insert(attempts), _COLUMNS, sets=_COLUMNS)
_ENDED = Prepared(update(attempts).where(attempts.c.id == bindparam("row")), (*_END, "row"), sets=_END)


def add_attempts(tx: Tx, rows: Sequence[Values]) -> list[int]:
    """Add attempts, each without its id, and without the columns of its end if it has not ended. Return their ids."""
    ids = new_ids(tx.conn, attempts, len(rows))
    missing = (None,) * len(_END)
    whole = [(id_, *row, *missing)[: len(_COLUMNS)] for id_, row in zip(ids, rows, strict=True)]
    _NEW.run(tx.conn, whole)
    tx.changes.keep(Bound.ATTEMPTS, whole)
    return ids


def end_attempts(tx: Tx, ends: Sequence[tuple[Values, Values]], *, late: bool = False) -> None:
    """End attempts. Each has the columns of its beginning, as they were added, id included, and those of its end.

    `late`: the task was not locked, and retention may have removed the attempt with it.
    """
    _ENDED.run(tx.conn, [(*end, beginning[0]) for beginning, end in ends])
    if late:
        tx.changes.write(Bound.ATTEMPTS, [beginning[0] for beginning, _ in ends])
    else:
        tx.changes.keep(Bound.ATTEMPTS, [(*beginning, *end) for beginning, end in ends])
