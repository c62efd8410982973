"""A rig whose ledger is a database of a PostgreSQL server, for daemons that share it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import URL

from tests.system.daemon_rig import Rig
from watcher.devnet.world import Devnet, DevnetOptions


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
