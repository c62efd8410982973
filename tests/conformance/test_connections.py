"""Connections to PostgreSQL that break at any moment, at COMMIT too: nothing is lost, and nothing is doubled."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.exc import OperationalError

from tests import single_results as hook_results
from tests.conformance.rig import ANSWER, LEASE_MS, LedgerRig, make_task, opened
from watcher.errors import LostLease, TryLater
from watcher.ledger import postgres as postgres_file
from watcher.ledger import schema
from watcher.ledger.transaction import Tx
from watcher.state import State
from watcher.task import Response

TASKS = 60
NAME = f"watcher tests {os.getpid()}"  # the server may have other guests
_PAUSE_S = 0.08
_OURS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = :name
"""


class Breaker:
    """How many connections it has ended so far, and how many verbs have come through."""

    broken = 0
    verbs = 0


@contextmanager
def breaking(url: URL) -> Iterator[Breaker]:
    """Ends every connection to the ledger again and again, as a server does that is restarted.

    While no verb comes through it waits twice as long each time: on a loaded machine a verb takes longer than a pause.
    """
    breaker, over = Breaker(), threading.Event()
    engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def run() -> None:
        pause_s, verbs = _PAUSE_S, 0
        with engine.connect() as connection:
            while not over.wait(pause_s):
                pause_s = _PAUSE_S if breaker.verbs > verbs else pause_s * 2
                verbs = breaker.verbs
                breaker.broken += connection.execute(text(_OURS), {"name": NAME}).scalar_one()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield breaker
    finally:
        over.set()
        thread.join()
        engine.dispose()


async def until_done(ledger: LedgerRig, breaker: Breaker) -> int:
    """A stage's way: take what is due, do it, and look again after any trouble. Returns how often there was some."""
    troubles = recorded = 0
    while True:
        try:
            while recorded < TASKS:
                await ledger.record(make_task(recorded, deadline=None), upto=110 + recorded)
                recorded += 1
                breaker.verbs += 1
            await ledger.admit()
            for task in await ledger.claim(State.READY, limit=3):
                await ledger.write(hook_results.keep_answer, task, Response(ANSWER, "hook 1", 5))
                breaker.verbs += 1
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
            troubles = await until_done(ledger, breaker)
        await last_break_noticed(ledger)
        await all_is_there_once(ledger)
    assert breaker.broken > 4
    assert troubles > 0, "none was broken in the middle of a verb"


@pytest.mark.parametrize("has_pipeline", [False, True])
def test_a_server_that_goes_before_the_begin_is_an_error_of_the_database(url: URL, has_pipeline: bool) -> None:
    if url.get_backend_name() == "sqlite":
        pytest.skip("a file has no connections to break")
    engine = postgres_file.open_postgres(url.update_query_dict({"application_name": NAME}), read_only=False)
    with engine.connect() as connection, create_engine(url, isolation_level="AUTOCOMMIT").connect() as other:
        if has_pipeline:
            postgres_file.use_pipeline(connection)
        pid = postgres_file.session_of(connection).info.backend_pid
        other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
        with pytest.raises(OperationalError), connection.begin():
            connection.execute(text("SELECT 1"))
    with engine.connect() as connection, connection.begin():
        assert connection.execute(text("SELECT 1")).scalar_one() == 1, "the next connection is a new one"
    engine.dispose()


async def last_break_noticed(ledger: LedgerRig) -> None:
    """Ask until the ledger answers: the last break may reach an idle connection only when it is used."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(TryLater):
                await ledger.rows()
                return


async def all_is_there_once(ledger: LedgerRig) -> None:
    assert [row.task_index for row in await ledger.rows()] == list(range(TASKS))
    for index in range(TASKS):
        lines, tries = await ledger.story(index)
        assert [line.to_state for line in lines] == [State.SEEN, State.READY, State.COMPUTED]
        assert len(tries) == 1
        assert (await ledger.row(index)).response == ANSWER


@contextmanager
def as_admin(url: URL) -> Iterator[Connection]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def end_all(admin: Connection) -> None:
    admin.execute(text(_OURS), {"name": NAME})


async def patiently(ledger: LedgerRig, message_index: int) -> str:
    """Record a task. Returns what was in the way, if anything was."""
    try:
        await ledger.record(make_task(message_index, deadline=None), upto=110 + message_index)
    except TryLater as error:
        return str(error)
    return ""


async def test_a_server_that_turns_read_only_is_waited_for(url: URL) -> None:
    """It has become a standby: whatever is open ends, and new connections may only read."""
    if url.get_backend_name() == "sqlite":
        pytest.skip("a file does not turn into a standby")
    async with opened(url.update_query_dict({"application_name": NAME}), create_engine(url)) as ledger:
        with as_admin(url) as admin:
            database = admin.execute(text("SELECT current_database()")).scalar_one()
            admin.execute(text(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on'))
            try:
                end_all(admin)
                messages = {await patiently(ledger, 0) for _ in range(3)}
                assert any("read-only" in message for message in messages), messages
                assert all(messages), "nothing was written meanwhile"
            finally:
                admin.execute(text("SET default_transaction_read_only = off"))
                admin.execute(text(f'ALTER DATABASE "{database}" RESET default_transaction_read_only'))
            end_all(admin)
            await patiently(ledger, 0)
            assert await patiently(ledger, 0) == ""
        assert [row.task_index for row in await ledger.rows()] == [0]


async def test_a_table_that_somebody_keeps_locked_is_waited_for_within_limits(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url.get_backend_name() == "sqlite":
        pytest.skip("a file has a time-out of its own")
    monkeypatch.setattr(postgres_file, "LOCK_TIMEOUT_MS", 50)
    async with opened(url, create_engine(url)) as ledger:
        other = create_engine(url)
        with other.begin() as connection:
            connection.execute(text("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"))
            assert "lock timeout" in await patiently(ledger, 0)
        other.dispose()
        assert await patiently(ledger, 0) == ""


async def test_a_deadlock_costs_a_verb_and_no_more(url: URL) -> None:
    """Somebody else holds the second of two tables and wants the first; the server ends one of the two."""
    if url.get_backend_name() == "sqlite":
        pytest.skip("a file has one writer")
    async with opened(url, create_engine(url)) as ledger:
        has_lock, asks_for_lock = threading.Event(), threading.Event()
        other = create_engine(url)

        def stand_in_the_way() -> None:
            with contextlib.suppress(OperationalError), other.begin() as connection:
                connection.execute(text("LOCK TABLE journal IN ACCESS EXCLUSIVE MODE"))
                has_lock.set()
                assert asks_for_lock.wait(20)
                connection.execute(text("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"))

        thread = threading.Thread(target=stand_in_the_way)
        thread.start()
        assert await asyncio.to_thread(has_lock.wait, 20)

        def verb(tx: Tx) -> None:
            tx.conn.execute(text("LOCK TABLE tasks IN ROW EXCLUSIVE MODE"))
            asks_for_lock.set()
            tx.conn.execute(text("LOCK TABLE journal IN ROW EXCLUSIVE MODE"))

        with contextlib.suppress(TryLater):  # the server chooses whom it ends
            await ledger.write(verb)
        await asyncio.to_thread(thread.join)
        other.dispose()
        assert await patiently(ledger, 0) == ""


async def test_a_server_that_takes_a_connection_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres_file.SERVER_LIMITS, "connect_timeout", 2)  # libpq's least
    listener = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(3600), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with pytest.raises(TryLater, match="timeout"):
        await asyncio.to_thread(schema.upgrade, URL.create("postgresql+psycopg", "u", "p", "127.0.0.1", port, "d"))
    listener.close()
