"""The clock of the database: leases and due times of a ledger that hosts share go by it, however their clocks differ.

A statement asks it (`database_now_ms`). A process reads it now and then, and carries it on by its host's monotonic
clock (`DatabaseClock`), so that a step of the host's own wall clock moves nothing. A database whose time goes back, as
after a failover, is a step backwards like any other.
"""

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.engine import URL
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from watcher.clock import Clock

# A reading takes a while to arrive: a smaller difference is none.
_NOTICED_MS = 250


class database_now_ms(GenericFunction[int]):  # noqa: N801 - reads as a function of SQL
    """The database's time in milliseconds since 1970, at the moment of the statement."""

    type = BigInteger()
    inherit_cache = True


@compiles(database_now_ms, "postgresql")
def _on_postgresql(element: Any, compiler: Any, **_: Any) -> str:  # noqa: ARG001 - the library's signature
    return "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)"


@compiles(database_now_ms, "sqlite")
def _on_sqlite(element: Any, compiler: Any, **_: Any) -> str:  # noqa: ARG001 - the library's signature
    # The Julian day of 1970-01-01 is 2440587.5 (https://www.sqlite.org/lang_datefunc.html).
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


class DatabaseClock:
    """The database's time. Before its first reading it is the host's."""

    def __init__(self, host: Clock) -> None:
        self._host = host
        self._ahead_ms: int | None = None  # of the monotonic clock

    def now_ms(self) -> int:
        """Return the database's time in milliseconds since 1970 UTC."""
        if self._ahead_ms is None:
            return self._host.now_ms()
        return self._ahead_ms + int(self.monotonic_s() * 1000)

    def monotonic_s(self) -> float:
        """Return seconds on the host's clock that never steps."""
        return self._host.monotonic_s()

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        await self._host.sleep(seconds)

    def read(self, database_ms: int) -> None:
        """Take over a reading of the database's time, in milliseconds since 1970 UTC."""
        ahead_ms = database_ms - int(self.monotonic_s() * 1000)
        if self._ahead_ms is None or abs(ahead_ms - self._ahead_ms) > _NOTICED_MS:
            self._ahead_ms = ahead_ms

    @property
    def host_ahead_ms(self) -> int:
        """Return by how much the host's wall clock is ahead of the database's."""
        return self._host.now_ms() - self.now_ms()


def clock_of(url: URL, host: Clock) -> Clock:
    """Return the clock of a ledger: the database's where hosts may share it, else the host's."""
    return DatabaseClock(host) if url.get_backend_name() == "postgresql" else host
