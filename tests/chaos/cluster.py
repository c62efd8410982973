"""The world of a run with replicas: the torture's, with a PostgreSQL ledger, several daemons and a proxy between."""

import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.database import PASSWORD, Database
from tests.chaos.plan import ChaosPlan
from tests.system.daemon_rig import Daemon, Rig
from tests.torture.rpc_proxy import RpcProxy
from tests.torture.world import World
from watcher.devnet.world import Devnet

TRY_AGAIN = 75


class ClusterRig(Rig):
    """A rig whose ledger is a database, until it has moved into the file `ledger`."""

    def __init__(self, database: Database, net: Devnet, folder: Path, stack: AsyncExitStack, hook: str) -> None:
        self.database = database
        self.is_moved = False
        self._seen: dict[str, list[Any]] = {}
        super().__init__(net, folder, stack, hook)

    @property
    def database_url(self) -> str:
        return self.database.proxied_url.render_as_string(hide_password=False)

    def write_config(self, *, changes: Mapping[str, str] | None = None, **toml: Any) -> None:
        super().write_config(changes=changes, **{"ledger_url": self.database_url} | toml)

    def query(self, sql: str, *parameters: Any) -> list[Any]:
        """Rows of the ledger, those of the last time while the server is away."""
        if self.is_moved:
            return super().query(sql, *parameters)
        try:
            if not self.database.is_away:
                self._seen[sql] = self.database.rows(sql, *parameters)
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            pass
        return self._seen.get(sql, [])


class Cluster(World):
    """`daemons` share one ledger; each has a log and roles of its own."""

    rig: ClusterRig

    def __init__(self, plan: ChaosPlan, net: Devnet, rig: ClusterRig, proxy: RpcProxy, chance: random.Random) -> None:
        super().__init__(net, rig, proxy, chance, plan.replicas)
        self.roles = plan.roles
        self.secrets = (*self.secrets, PASSWORD)
        rig.database.proxy.done = self.past.done

    async def start(self, number: int) -> Daemon:
        log = self.rig.folder / f"replica-{number}.log"
        variables = {"WATCHER_DAEMON__ROLES": self.roles[number % len(self.roles)]}
        daemon = self.daemons[number] = await self.rig.start(ready=False, log=log, environment=variables)
        self.past.done["starts"] += 1
        return daemon

    def note_end(self, daemon: Daemon) -> None:
        """A service starts one again that could not reach its ledger at the start."""
        if daemon.process.returncode == TRY_AGAIN and "READY=1" not in daemon.notices():
            self.past.done["starts given up, no database (exit code 75)"] += 1
        else:
            super().note_end(daemon)
