"""PostgreSQL servers in trouble: restarted, failed over to a standby that lost commits, cut off at COMMIT, full."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from tests.conformance.postgres import NoServer, Server, server_folder
from tests.conformance.rig import ANSWER, CHAIN_ID, MANAGER, START_BLOCK, LedgerRig, make_task
from tests.kit.clocks import SetClock
from watcher.errors import TryLater
from watcher.ledger import claims, restore, schema
from watcher.ledger.audit.check import Checker
from watcher.ledger.database_clock import DatabaseClock
from watcher.ledger.engine import open_engine
from watcher.ledger.store import Ledger, open_ledger
from watcher.ledger.transaction import Tx
from watcher.state import State


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that keeps its word about fsync: it is killed."""
    pytest.importorskip("psycopg")
    try:
        with server_folder() as folder:
            own = Server(folder)
            own.start()
            try:
                yield own
            finally:
                own.stop()
    except NoServer as why:
        pytest.skip(str(why))


@pytest.fixture
def url(server: Server, request: pytest.FixtureRequest) -> URL:
    """A new database on that server."""
    name = "".join(character for character in request.node.name if character.isalpha())[:40].lower()
    admin = create_engine(server.url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    url = server.url.set(database=name)
    schema.upgrade(url)
    return url


def rig(store: Ledger, clock: SetClock, url: URL) -> LedgerRig:
    return LedgerRig(store, clock, url, open_engine(url))


async def patiently(ledger: LedgerRig, index: int) -> list[str]:
    """Record a task until it is written. Return what was in the way."""
    reasons: list[str] = []
    deadline_s = time.monotonic() + 60
    while True:
        try:
            await ledger.record(make_task(index, deadline=None), upto=110 + index)
            return reasons
        except TryLater as error:
            reasons.append(str(error))
            assert time.monotonic() < deadline_s, reasons[-1]
            await asyncio.sleep(0.05)


async def written(ledger: LedgerRig) -> Any:
    """Wait for the commit that the server is still at. Return the row of the task."""
    deadline_s = time.monotonic() + 60
    row = await ledger.row(0)
    while row.state == State.COMPUTED and time.monotonic() < deadline_s:
        row = await ledger.row(0)
    return row


def crash(server: Server) -> None:
    server.stop("immediate")
    server.start()


def no_problem(url: URL, source_id: int) -> None:
    engine = open_engine(url, read_only=True)
    with engine.connect() as conn:
        assert Checker(conn, source_id).run().problems == []
    engine.dispose()


async def test_server_that_crashes_loses_no_verb(server: Server, url: URL) -> None:
    """Stopped in immediate mode, as by a power cut, between two verbs and beneath them."""
    clock = SetClock()
    async with open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK) as store:
        ledger = rig(store, clock, url)
        for index in range(2):
            await patiently(ledger, 2 * index)
            restarting = threading.Thread(target=crash, args=(server,))
            restarting.start()
            await patiently(ledger, 2 * index + 1)
            await asyncio.to_thread(restarting.join)
        assert [row.task_index for row in await ledger.rows()] == list(range(4))
        no_problem(url, store.source_id)
        ledger.engine.dispose()


async def test_standby_that_lost_commits_is_treated_as_restored_copy(server: Server, url: URL, tmp_path: Path) -> None:
    """The newest attempt is gone with its server: no task up to its block goes to the hook again."""
    clock, file = SetClock(), tmp_path / "newest"
    async with open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK, entry_file=file) as store:
        ledger = rig(store, clock, url)
        await ledger.bring(make_task(0), to=State.ACCEPTED)
        with server.falling_back():  # to what it holds now
            await ledger.bring(make_task(1, block=108), to=State.ACCEPTED)
        reasons = await patiently(ledger, 2)
        assert any("lost commits" in reason for reason in reasons), reasons
        assert store.held_to_block >= 108
        assert await store.read(restore.held_to, store.source_id) == store.held_to_block
        await ledger.record(make_task(1, block=108), upto=113)  # the chain shows it once more
        await ledger.admit()
        claimed = await store.write(claims.claim, store.source_id, [State.READY], 10, 1000, store.held_to_block)
        assert claimed == []
        assert (await ledger.row(0)).response == ANSWER
        no_problem(url, store.source_id)
        ledger.engine.dispose()
    async with open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK, entry_file=file) as store:
        assert await store.read(restore.held_to, store.source_id) >= 108  # and the loss is noted once
        events = await store.read(lambda conn: conn.execute(text("SELECT kind FROM events")).scalars().all())
        assert events.count("restored") == 1


async def test_older_copy_is_noticed_at_the_start_when_the_file_knows_better(
    server: Server, url: URL, tmp_path: Path
) -> None:
    """The daemon was stopped while the database was replaced by its backup."""
    clock, file = SetClock(), tmp_path / "newest"
    async with open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK, entry_file=file) as store:
        await rig(store, clock, url).record(make_task(0))
    with server.falling_back():
        async with open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK, entry_file=file) as store:
            await rig(store, clock, url).bring(make_task(1, block=109), to=State.ACCEPTED)
    async with open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK, entry_file=file) as store:
        assert await store.read(restore.held_to, store.source_id) >= 109


class Cutter:
    """A socket before the server's, which passes everything on, and cuts a connection once it has sent a COMMIT."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.cuts = 0
        self._server = str(Path(str(server.url.query["host"])) / ".s.PGSQL.5432")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
                threading.Thread(target=self._pass_back, args=(server, client), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self.cuts and b"COMMIT" in data:
                    self.cuts -= 1
                    client.shutdown(socket.SHUT_RDWR)  # no reply reaches the client
                    server.sendall(data)
                    while server.recv(65536):  # until the server has committed and sees the end
                        server.shutdown(socket.SHUT_WR)
                    return
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _pass_back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


async def test_commit_without_reply_is_looked_up_and_not_repeated(server: Server, url: URL, tmp_path: Path) -> None:
    """The server has committed, and the daemon cannot know it: it asks, and does nothing twice."""
    cutter, clock = Cutter(server, tmp_path), SetClock()
    passed = url.update_query_dict({"host": str(tmp_path)})
    try:
        async with open_ledger(passed, clock, CHAIN_ID, MANAGER, START_BLOCK) as store:
            ledger = rig(store, clock, url)
            await ledger.bring(make_task(0), to=State.COMPUTED)
            (task,) = await ledger.claim(State.COMPUTED)
            cutter.cuts = 1
            with pytest.raises(TryLater):
                await ledger.begin(task)
            assert cutter.cuts == 0
            row = await written(ledger)
            assert (row.state, row.attempts) == (State.SENDING, 1)  # it was committed, once
            assert await ledger.begin(task) == []  # who tries again learns that the task has changed
            assert len((await ledger.story(0))[1]) == 2  # the hook's run, and the attempt
            no_problem(url, store.source_id)
            ledger.engine.dispose()
    finally:
        cutter.close()


async def test_server_without_free_connections_is_waited_for(server: Server, url: URL) -> None:
    admin = create_engine(server.url, isolation_level="AUTOCOMMIT")
    clock = SetClock()
    name = f"guest_{os.getpid()}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN CONNECTION LIMIT 4"))
        connection.execute(text(f"ALTER DATABASE {url.database} OWNER TO {name}"))
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}"))
        connection.execute(text(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}"))
    as_guest = url.set(username=name)
    async with open_ledger(as_guest, clock, CHAIN_ID, MANAGER, START_BLOCK) as store:
        ledger = rig(store, clock, url)
        with admin.connect() as connection:
            connection.execute(text(f"ALTER ROLE {name} CONNECTION LIMIT 0"))
            ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = :name"
            connection.execute(text(ended), {"name": name}).all()
            with pytest.raises(TryLater, match="too many connections"):
                await ledger.record(make_task(0))
            connection.execute(text(f"ALTER ROLE {name} CONNECTION LIMIT 4"))
        await patiently(ledger, 0)
        assert [row.task_index for row in await ledger.rows()] == [0]
        ledger.engine.dispose()
    admin.dispose()


@contextmanager
def host_ahead_by(ms: int) -> Iterator[DatabaseClock]:
    class Host(SetClock):
        def now_ms(self) -> int:
            return super().now_ms() + ms

    yield DatabaseClock(Host())


async def test_leases_go_by_the_clock_of_the_database(url: URL) -> None:
    """Two hosts whose clocks are an hour apart: neither takes what the other holds, and both write the same time."""

    async def lease_of(ahead_ms: int) -> tuple[int, int]:
        with host_ahead_by(ahead_ms) as clock:
            async with open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK) as store:

                def read(tx: Tx) -> tuple[int, int]:
                    server_ms = tx.conn.execute(
                        text("SELECT extract(epoch FROM clock_timestamp()) * 1000")
                    ).scalar_one()
                    return tx.now_ms, int(server_ms)

                return await store.write(read)

    for ahead_ms in (-3_600_000, 0, 3_600_000):
        now_ms, server_ms = await lease_of(ahead_ms)
        assert abs(now_ms - server_ms) < 60_000
