"""Connections to PostgreSQL that break at any moment, at COMMIT too: nothing is lost, and nothing is doubled."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import URL, create_engine, text

from tests.conformance.rig import ANSWER, LEASE_MS, Ledger, make_task, opened
from watcher.errors import LostLease, TryLater
from watcher.ledger import answers
from watcher.task import Response, State

TASKS = 60
NAME = f"watcher tests {os.getpid()}"  # the server may have other guests
_OURS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = :name
"""


class Breaker:
    """How many connections it has ended so far."""

    broken = 0


@contextmanager
def breaking(url: URL) -> Iterator[Breaker]:
    """Ends every connection to the ledger again and again, as a server does that is restarted."""
    breaker, over = Breaker(), threading.Event()
    engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def run() -> None:
        with engine.connect() as connection:
            while not over.wait(0.04):
                breaker.broken += connection.execute(text(_OURS), {"name": NAME}).scalar_one()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield breaker
    finally:
        over.set()
        thread.join()
        engine.dispose()


async def until_done(ledger: Ledger) -> int:
    """A stage's way: take what is due, do it, and look again after any trouble. Returns how often there was some."""
    troubles = recorded = 0
    while True:
        try:
            while recorded < TASKS:
                await ledger.record(make_task(recorded, deadline=None), upto=110 + recorded)
                recorded += 1
            await ledger.admit()
            for held in await ledger.claim(State.READY, limit=3):
                await ledger.do(answers.keep_answer, held, Response(ANSWER, "hook 1", 5))
            if {row.state for row in await ledger.rows()} == {State.COMPUTED}:
                return troubles
        except (TryLater, LostLease):
            troubles += 1
        ledger.clock.at_ms += LEASE_MS  # what was taken in a commit nobody heard of is free again
        await asyncio.sleep(0)


@pytest.mark.timeout(180)
async def test_connections_that_break_lose_no_verb_and_double_none(url: URL) -> None:
    if url.get_backend_name() == "sqlite":
        pytest.skip("a file has no connections to break")
    async with opened(url.update_query_dict({"application_name": NAME}), create_engine(url)) as ledger:
        with breaking(url) as breaker:
            troubles = await until_done(ledger)
        await all_is_there_once(ledger)
    assert breaker.broken > 10
    assert troubles > 0, "none was broken in the middle of a verb"


async def all_is_there_once(ledger: Ledger) -> None:
    assert [row.task_index for row in await ledger.rows()] == list(range(TASKS))
    for index in range(TASKS):
        lines, tries = await ledger.story(index)
        assert [line.to_state for line in lines] == [State.SEEN, State.READY, State.COMPUTED]
        assert len(tries) == 1
        assert (await ledger.row(index)).response == ANSWER
