"""The rows that verbs hand to the audit chain, compared with what the database holds at the end of the transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from watcher.ledger import store
from watcher.ledger.audit import chain
from watcher.ledger.audit.changes import Bound
from watcher.ledger.audit.record import COLUMNS
from watcher.ledger.transaction import Tx


@contextmanager
def rereading() -> Iterator[dict[Bound, int]]:
    """Read every row back that a verb hands over (`Changes.keep`), and compare. Return how many, by table.

    A difference fails the transaction.
    """
    compared = dict.fromkeys(Bound, 0)

    def bind(tx: Tx) -> None:
        for table, known in tx.changes.known.items():
            later = tx.changes.written.get(table, set()) | tx.changes.removed.get(table, set())
            rows = {row_id: row for row_id, row in known.items() if row_id not in later}
            stored = {row[0]: tuple(row) for row in chain._rows(tx.conn, table, sorted(rows))}
            for row_id, row in rows.items():
                names = [
                    f"{name}: {mine!r}, and the database has {its!r}"
                    for name, mine, its in zip(COLUMNS[table], row, stored.get(row_id, ()), strict=True)
                    if (type(mine), mine) != (type(its), its)
                ]
                assert not names, f"{table.name} {row_id}: {'; '.join(names)}"
            compared[table] += len(rows)
        chain.bind(tx)

    with patch.object(store, "bind", bind):
        yield compared
