"""Questions to the ledger, answered from its last commit."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from watcher.errors import TryLater
from watcher.ledger.engine import database_reason, open_engine

P = ParamSpec("P")
T = TypeVar("T")


class Read(Protocol):
    """A way to ask the ledger a question, answered from the last commit."""

    async def __call__(self, question: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the answer. Raises TryLater if the database cannot be read."""


class Reader:
    """The ledger, read-only."""

    def __init__(self, url: URL, *, alone: bool = False) -> None:
        """Open the ledger; `alone`: a file that nobody writes, read without a file beside it (see `open_engine`)."""
        self._engine = open_engine(url, read_only=True, alone=alone)

    async def read(self, question: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Answer a question from the last commit. Raises TryLater if the database cannot be read."""
        return await asyncio.to_thread(lambda: self.read_now(question, *args, **kwargs))

    def read_now(self, question: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Answer a question outside of an event loop. Raises TryLater as `read` does."""
        try:
            with self._engine.connect() as conn:
                return question(conn, *args, **kwargs)
        except SQLAlchemyError as error:
            raise TryLater(f"the ledger could not be read ({database_reason(error)})") from None

    def stream(
        self, question: Callable[Concatenate[Connection, P], Iterator[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Iterator[T]:
        """Yield an answer of any length, row by row. Raises TryLater as `read` does."""
        try:
            with self._engine.connect() as conn:
                yield from question(conn, *args, **kwargs)
        except SQLAlchemyError as error:
            raise TryLater(f"the ledger could not be read ({database_reason(error)})") from None

    def close(self) -> None:
        self._engine.dispose()
