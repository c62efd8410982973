"""Pieces of work on their way at the same time: hook runs, requests. Imports nothing of ours.

Invariant: no failure is lost. What a piece raises beyond what it handles itself is a bug of ours, and comes out of the
next call, so that the stage that owns the flight fails loudly.
"""

import asyncio
import contextlib
from collections.abc import Coroutine


class Flight:
    """A bounded set of running coroutines; the owner asks `room` before it starts another.

    The bound is on what a piece does out there. One that is `ending` counts no more, and is awaited all the same; the
    ledger bounds those, for nothing new is begun before a commit behind theirs.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._awaited, self._roomy = 0, asyncio.Event()
        self._bug: BaseException | None = None

    def __len__(self) -> int:
        return len(self._running)

    @property
    def room(self) -> int:
        """How many more may be started. Raises what a piece has raised since the last call."""
        self._raise()
        return self._limit - len(self._running)

    def start(self, piece: Coroutine[None, None, None], name: str) -> None:
        """Let a piece run on its own."""
        running = asyncio.create_task(piece, name=name)
        self._running.add(running)
        running.add_done_callback(self._landed)

    def ending(self) -> None:
        """Said by a piece about itself: it takes up no room any more, for the rest of it is only writing down."""
        piece = asyncio.current_task()
        assert piece in self._running, "only a piece that runs can come to its end"
        self._running.discard(piece)
        self._ending.add(piece)
        self._wake()

    async def landing(self, timeout_s: float, room: int = 1) -> None:
        """Wait until so many more may be started, `timeout_s` at most. `room` is at most the limit."""
        self._awaited = room
        self._roomy.clear()
        if self.room < room:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._roomy.wait()

    async def drain(self) -> None:
        """Wait until all have ended. When cancelled, cancel them."""
        try:
            while pieces := self._running | self._ending:
                await asyncio.wait(pieces)
        except asyncio.CancelledError:
            for piece in self._running | self._ending:
                piece.cancel()
            raise
        self._raise()

    def _landed(self, piece: asyncio.Task[None]) -> None:
        self._running.discard(piece)
        self._ending.discard(piece)
        self._wake()
        if not piece.cancelled() and (error := piece.exception()) is not None:
            self._bug = self._bug or error
            self._roomy.set()

    def _wake(self) -> None:
        if self._limit - len(self._running) >= self._awaited:
            self._roomy.set()

    def _raise(self) -> None:
        if self._bug is not None:
            bug, self._bug = self._bug, None
            raise bug
