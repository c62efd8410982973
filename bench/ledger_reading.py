"""A ledger read from outside, by its documented tables: states, and the times of the journal."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import Engine, create_engine, text

from bench.errors import Failed

_POLL_S = 0.02
_COUNT = text("SELECT count(*) FROM tasks WHERE state = :state")
_LAST = text("SELECT max(at_ms) FROM journal WHERE to_state = :state")
_BY = text("SELECT count(*) FROM journal WHERE to_state = :state AND from_state IS NULL AND at_ms <= :at_ms")


class LedgerReading:
    """A ledger under a URL of SQLAlchemy. Only reads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def count(self, state: str) -> int:
        """Return how many tasks are in a state."""
        return self._value(_COUNT, state=state)

    def last_s(self, state: str) -> float:
        """Return when the last task entered a state, as a time of the monotonic clock. The journal has ms."""
        return self._value(_LAST, state=state) / 1000 - time.time() + time.monotonic()

    def seen_by(self, at_s: float) -> int:
        """Return how many tasks had been seen by a time of the monotonic clock."""
        return self._value(_BY, state="seen", at_ms=int((at_s - time.monotonic() + time.time()) * 1000))

    async def until(self, state: str, tasks: int, timeout_s: float) -> None:
        """Wait until so many tasks are in a state. Raises Failed when time is up."""
        ends_s = time.monotonic() + timeout_s
        while (count := self.count(state)) < tasks:
            if time.monotonic() > ends_s:
                raise Failed(f"the ledger has {count} of {tasks} tasks in state {state} after {timeout_s:g} s")
            await asyncio.sleep(_POLL_S)

    def _value(self, statement: object, **parameters: object) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(statement, parameters).scalar_one() or 0)  # type: ignore[call-overload]


@asynccontextmanager
async def ledger_reading(url: str) -> AsyncIterator[LedgerReading]:
    """Open a ledger that exists, and close it at the end."""
    engine = create_engine(url)
    try:
        yield LedgerReading(engine)
    finally:
        engine.dispose()
