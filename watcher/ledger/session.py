"""A connection to the ledger beside the writer's, which no long commit of the writer holds up."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from watcher.errors import TryLater
from watcher.ledger.engine import database_reason, open_engine

P = ParamSpec("P")
T = TypeVar("T")


class Session:
    """One connection with a thread of its own; its transactions run one after the other."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._engine = open_engine(url)
        self._thread = ThreadPoolExecutor(1, "ledger-session")

    async def run(self, verb: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a verb in a transaction of its own, and return its result after the commit.

        Raises TryLater if the database cannot be reached or refuses it.
        """

        def work() -> T:
            with self._engine.begin() as conn:
                return verb(conn, *args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except SQLAlchemyError as error:
            raise TryLater(f"the replicas' tables could not be used ({database_reason(error)})") from None

    def close(self) -> None:
        """Close the connection, once the verb that runs has ended."""
        self._thread.submit(self._engine.dispose)
        self._thread.shutdown(wait=False)
