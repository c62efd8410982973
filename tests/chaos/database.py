"""The database of a run: a server of our own that can be restarted, or the one that TEST_DATABASE_URL names."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import URL, make_url

from tests.chaos.pg_proxy import PgProxy
from tests.conformance.postgres import Server, server_folder

PASSWORD = "canarydbpw7f3a1e9b"
_CONNECT_S = 5


class Database:
    """`url` goes past the proxy and is for the harness, `proxied_url` is for the daemons."""

    def __init__(self, url: URL, server: Server | None, folder: Path) -> None:
        self.url, self._server = url, server
        self.proxy = PgProxy(folder, self._connect, self.terminate)
        password, query = url.password or PASSWORD, {"host": str(folder)}
        self.proxied_url = url.set(drivername="postgresql", password=password, host=None, port=None, query=query)
        self.is_away = False

    async def _connect(self, factory: Any) -> Any:
        loop, host = asyncio.get_running_loop(), self.url.query.get("host")
        if isinstance(host, str) and host.startswith("/"):
            return await loop.create_unix_connection(factory, f"{host}/.s.PGSQL.{self.url.port or 5432}")
        return await loop.create_connection(factory, self.url.host or "127.0.0.1", self.url.port or 5432)

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        """Raises psycopg.OperationalError while the server is away."""
        url = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with closing(psycopg.connect(url, connect_timeout=_CONNECT_S, autocommit=True)) as connection:
            done = connection.execute(sql, parameters or None)
            return list(done.fetchall()) if done.description else []

    async def terminate(self, backend_pid: int) -> None:
        try:
            await asyncio.to_thread(self.rows, "SELECT pg_terminate_backend(%s)", backend_pid)
        except psycopg.OperationalError:
            pass  # the server is away, and so is the backend

    async def restart(self, mode: str, away_s: float) -> None:
        """Ends every session, refuses new ones for `away_s`, and comes back. `mode` as pg_ctl's.

        A server that is not ours stays up: its sessions are ended, and the proxy refuses new ones.
        """
        self.is_away = True
        if self._server is not None:
            await asyncio.to_thread(self._server.stop, mode)
            await asyncio.sleep(away_s)
            await asyncio.to_thread(self._server.start)
        else:
            await self.proxy.stop()
            others = "pid <> pg_backend_pid() AND datname = current_database()"
            sql = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
            await asyncio.to_thread(self.rows, sql)
            await asyncio.sleep(away_s)
            await self.proxy.start()
        self.is_away = False


@asynccontextmanager
async def running_database(name: str) -> AsyncIterator[Database]:
    """A new database `name` behind a proxy. Raises NoServer where no server can be had."""
    async with AsyncExitStack() as stack:
        address = os.environ.get("TEST_DATABASE_URL")
        server = None
        if address:
            url = make_url(address).set(drivername="postgresql")
        else:
            server = Server(stack.enter_context(server_folder()))
            server.start()
            stack.callback(server.stop)
            url = server.url
        admin = Database(url, server, Path())
        admin.rows(f"CREATE DATABASE {name}")
        if server is None:
            stack.callback(admin.rows, f"DROP DATABASE {name} WITH (FORCE)")
        database = Database(url.set(database=name), server, stack.enter_context(server_folder()))
        await database.proxy.start()
        stack.push_async_callback(database.proxy.stop)
        yield database
