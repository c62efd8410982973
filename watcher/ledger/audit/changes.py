"""The rows of one transaction that the audit chain binds, by table, collected by the verbs. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum


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
    """The ids of rows that a transaction has added, changed or removed.

    All are of one source: `source_id`, or that of the tasks where no verb has named it.
    """

    written: dict[Bound, set[int]] = field(default_factory=dict)
    removed: dict[Bound, set[int]] = field(default_factory=dict)
    source_id: int | None = None

    def write(self, table: Bound, ids: Iterable[int]) -> None:
        """Record rows that were added or changed."""
        self.written.setdefault(table, set()).update(ids)

    def remove(self, table: Bound, ids: Iterable[int]) -> None:
        """Record rows that were removed by the rules of the ledger."""
        self.removed.setdefault(table, set()).update(ids)

    def clear(self) -> None:
        """Forget all of it."""
        self.written.clear()
        self.removed.clear()
        self.source_id = None

    def __bool__(self) -> bool:
        return any(self.written.values()) or any(self.removed.values())
