"""The rows of one transaction that the audit chain binds, by table, collected by the verbs. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Bound(IntEnum):
    """A table whose rows are bound. The number stands in the leaves of the chain and never changes."""

    SOURCES = 1
    TASKS = 2
    JOURNAL = 3
    ATTEMPTS = 4
    RESPONSES = 5
    EVENTS = 6


@dataclass(slots=True)
class Changes:
    """The rows that a transaction has added, changed or removed.

    `known` has rows as the last verb that kept them left them (`record.COLUMNS`), `written` the ids of those that are
    read back, whatever is known of them. All are of one source: `source_id`, or that of the tasks where no verb has
    named it.
    """

    known: dict[Bound, dict[int, Sequence[Any]]] = field(default_factory=dict)
    written: dict[Bound, set[int]] = field(default_factory=dict)
    removed: dict[Bound, set[int]] = field(default_factory=dict)
    source_id: int | None = None

    def keep(self, table: Bound, rows: Iterable[Sequence[Any]]) -> None:
        """Record rows that were added or changed, as the database holds them now: the columns of `record.COLUMNS`.

        The caller has made such a row of one that this transaction has locked and read, or has added it.
        """
        kept = {row[0]: row for row in rows}
        self.known.setdefault(table, {}).update(kept)
        if unread := self.written.get(table):
            unread.difference_update(kept)

    def write(self, table: Bound, ids: Iterable[int]) -> None:
        """Record rows that were added or changed, whose content is read back."""
        self.written.setdefault(table, set()).update(ids)

    def remove(self, table: Bound, ids: Iterable[int]) -> None:
        """Record rows that were removed by the rules of the ledger."""
        self.removed.setdefault(table, set()).update(ids)

    def clear(self) -> None:
        """Forget all of it."""
        self.known.clear()
        self.written.clear()
        self.removed.clear()
        self.source_id = None

    def __bool__(self) -> bool:
        return any(self.known.values()) or any(self.written.values()) or any(self.removed.values())
