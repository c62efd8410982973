"""A rig whose ledger is a database of a PostgreSQL server, for daemons that share it."""

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import URL

from tests.system.daemon_rig import Daemon, Rig
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.ledger.audit.chain import _ADVISORY_CLASS
from watcher.ledger.replicas import LEASE_MS

# Each change of the leader, by the database's clock: a test beside others looks late.
_KEEP_TERMS = """
CREATE TABLE terms (term BIGINT, replica_id BIGINT, beat_ms BIGINT, taken_ms BIGINT);
CREATE FUNCTION keep_term() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO terms VALUES (NEW.term, NEW.replica_id, OLD.until_ms - {lease_ms}, NEW.until_ms - {lease_ms});
    RETURN NULL;
END $$;
CREATE TRIGGER keep_term AFTER UPDATE ON leaders FOR EACH ROW WHEN (NEW.term <> OLD.term) EXECUTE FUNCTION keep_term();
"""
_AUDIT_LOCK = "SELECT pg_advisory_xact_lock(%s, id::int) FROM sources"
_AT_AUDIT_LOCK = """
SELECT FROM pg_locks AS lead JOIN pg_locks AS audit USING (pid)
WHERE lead.relation = 'leaders'::regclass AND audit.locktype = 'advisory' AND NOT audit.granted
"""
_FROZEN = """
SELECT FROM pg_locks AS lead JOIN pg_locks AS audit USING (pid) JOIN pg_stat_activity USING (pid)
WHERE lead.relation = 'leaders'::regclass AND audit.locktype = 'advisory' AND audit.granted
AND wait_event = 'ClientRead'
"""


class PostgresRig(Rig):
    """A rig whose ledger is a database of that server."""

    host = ""
    database = ""
    url = ""

    def query(self, sql: str, *parameters: Any) -> list[Any]:
        with closing(psycopg.connect(host=self.host, user="watcher", dbname=self.database)) as connection:
            try:
                return list(connection.execute(sql, parameters or None).fetchall())
            except psycopg.errors.UndefinedTable:
                return []

    def leader(self) -> int | None:
        """The replica that leads, None while nobody does."""
        now = "floor(extract(epoch FROM clock_timestamp()) * 1000)"
        rows = self.query(f"SELECT replica_id FROM leaders WHERE until_ms > {now}")
        return rows[0][0] if rows else None

    def keep_terms(self) -> None:
        """From now on, keep each change of the leader for `takeover_s`."""
        self.execute(_KEEP_TERMS.format(lease_ms=LEASE_MS))

    def takeover_s(self, replica_id: int) -> float:
        """The time from the last beat of the leader before to the lead of this replica, which is the last one."""
        (row,) = self.query("SELECT replica_id, taken_ms - beat_ms FROM terms ORDER BY term DESC LIMIT 1")
        assert row[0] == replica_id
        return float(row[1]) / 1000

    async def freeze(self, leader: Daemon) -> None:
        """Stop the process of the leader (SIGSTOP) within a transaction that holds the leader's row.

        It waits there for the lock of the audit chain, which the rig has until the process stands still.
        """
        with closing(psycopg.connect(host=self.host, user="watcher", dbname=self.database)) as connection:
            connection.execute(_AUDIT_LOCK, [_ADVISORY_CLASS])
            await self.create(1)
            await self.until(lambda: bool(self.query(_AT_AUDIT_LOCK)), "a commit of the leader is under way")
            leader.send(signal.SIGSTOP)
        await self.until(lambda: bool(self.query(_FROZEN)), "the server waits for the process")

    def execute(self, sql: str) -> None:
        with closing(psycopg.connect(host=self.host, user="watcher", dbname=self.database)) as connection:
            connection.execute(sql)
            connection.commit()

    def replicas(self) -> dict[int, str]:
        """The replicas with their roles."""
        return dict(self.query("SELECT id, roles FROM replicas ORDER BY id"))


@asynccontextmanager
async def postgres_rig(server: URL, folder: Path, hook: str = "dice") -> AsyncIterator[PostgresRig]:
    """A rig over a database of its own, whose devnet mines by hand with fast finality."""
    host, database = str(server.query["host"]), folder.name.lower()
    with closing(psycopg.connect(host=host, user="watcher", dbname="postgres", autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {database}")
    url = server.set(drivername="postgresql", database=database).render_as_string()
    async with AsyncExitStack() as stack:
        options = DevnetOptions(
            directory=folder / "devnet", mining="manual", slots_in_epoch=1, confirmations=1, persist=False
        )
        net = await stack.enter_async_context(Devnet(options))
        made = PostgresRig(net, folder, stack, hook, ledger_url=url)
        made.host, made.database, made.url = host, database, url
        yield made
