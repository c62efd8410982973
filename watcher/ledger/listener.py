"""Notifications of PostgreSQL from the other replicas, on a connection of its own.

They are hints, and polling is the truth: a notification that is lost costs the pause of a poll. Behind a pooler the
session that listens may be another one at the next moment, so nothing is listened to there.
"""

import asyncio
import hashlib
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from loguru import logger
from sqlalchemy.engine import URL

from watcher.backoff import doubled_s, spread_s
from watcher.clock import Clock
from watcher.ledger.engine import server_arguments

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_RETRY_FIRST_S = 0.5
_RETRY_MAX_S = 15.0
# A silent connection is tried so often: a server that vanished sends no notification, and no error either.
_TRY_EVERY_S = 20.0
_TRY_WITHIN_S = 10.0


def channel_of(schema: str, source_id: int) -> str:
    """Return the channel of a task manager. Channels belong to the database, so the schema is part of the name."""
    return "watcher_" + hashlib.sha256(f"{schema}/{source_id}".encode()).hexdigest()[:24]


class Listener:
    """The listener of one channel. `on_payload` gets each payload, and "" when some may have been missed."""

    def __init__(self, url: URL, channel: str, on_payload: Callable[[str], None], clock: Clock, random: Random) -> None:
        """Listen to nothing yet; `run` does."""
        self._url = url
        self._channel = channel
        self._on_payload = on_payload
        self._clock = clock
        self._random = random
        self.is_listening = False
        self.is_pooled = False

    async def run(self) -> None:
        """Listen until cancelled, on a new connection whenever one ends. Return where a pooler is in between."""
        import psycopg  # late: SQLite needs none

        failures = 0
        while not self.is_pooled:
            try:
                async with asyncio.timeout(_TRY_WITHIN_S):
                    connection = await psycopg.AsyncConnection.connect(autocommit=True, **server_arguments(self._url))
                async with connection:
                    if await self._begin(connection):
                        failures = 0
                        await self._follow(connection)
            except (psycopg.Error, OSError) as error:  # TimeoutError is an OSError
                failures += 1
                if failures == 1:
                    logger.debug("replica.listener_lost: the listener connects again", reason=type(error).__name__)
            finally:
                self.is_listening = False
            pause_s = doubled_s(max(failures, 1), _RETRY_FIRST_S, _RETRY_MAX_S)
            await self._clock.sleep(spread_s(pause_s, self._random.random))

    async def _begin(self, connection: "AsyncConnection[Any]") -> bool:
        from psycopg import sql

        row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
        if row is None or row[0] != connection.info.backend_pid:  # a pooler shows no process id of the server
            self.is_pooled = True
            logger.info("replica.polling: a pooler is between, so the replicas find work by polling alone")
            return False
        listen = sql.SQL("LISTEN {}").format(sql.Identifier(self._channel))  # it takes no parameter
        await connection.execute(listen)
        self.is_listening = True
        self._on_payload("")
        return True

    async def _follow(self, connection: "AsyncConnection[Any]") -> None:
        while True:
            async for notice in connection.notifies(timeout=_TRY_EVERY_S):
                self._on_payload(notice.payload)
            async with asyncio.timeout(_TRY_WITHIN_S):
                await connection.execute("SELECT 1")
