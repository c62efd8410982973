"""The dashboard over real sockets on a real ledger, whose daemon's health a test says."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import aiohttp

from tests.conformance.rig import CHAIN_ID, MANAGER, START_BLOCK
from tests.integration.test_web import WELL
from tests.integration.test_web import Served as ServedWeb
from tests.kit.clocks import QuickClock
from tests.kit.filled import Filled, fill
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.dashboard.routes import Dashboard
from watcher.dashboard.view import DashboardPlan
from watcher.health.access import Access
from watcher.health.http import Web
from watcher.health.metrics import Metrics
from watcher.health.monitor import Monitor
from watcher.health.observers import Observer
from watcher.health.readings import Limits
from watcher.health.sites import Site, Sites
from watcher.health.verdict import evaluate
from watcher.ledger.store import Ledger, open_ledger
from watcher.report.payload import Decoder
from watcher.validation import is_loopback

TOKEN = "correct horse battery staple"
HTML = {"Accept": "text/html"}


@dataclass
class Served(ServedWeb):
    """A dashboard that is served."""

    access: Access
    ledger: Ledger

    async def get(
        self, path: str, headers: Mapping[str, str] | None = HTML, method: str = "GET"
    ) -> tuple[int, str, Mapping[str, str]]:
        """Return status, body and headers of a page. Redirects are not followed."""
        async with self.session.request(method, self.url + path, headers=headers, allow_redirects=False) as reply:
            return reply.status, await reply.text(), reply.headers

    async def post(
        self, path: str, fields: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str, Mapping[str, str]]:
        """Send a form as a page of ours does; `headers` replace those of such a page."""
        headers = {"Origin": self.url} if headers is None else headers
        post = self.session.post(self.url + path, data=fields, headers=headers, allow_redirects=False)
        async with post as reply:
            return reply.status, await reply.text(), reply.headers

    async def log_in(self) -> str:
        """Log in, and return what the forms of the session's pages hold as proof."""
        status, _, _ = await self.post("/login", {"token": TOKEN})
        assert status == 303
        _, body, _ = await self.get("/")
        return body.partition('name="proof" value="')[2].partition('"')[0]


@asynccontextmanager
async def serving(
    filled: Filled, *, token: str = TOKEN, host: str = "127.0.0.1", protects_all: bool = False, public: str = ""
) -> AsyncIterator[Served]:
    """Serve a filled ledger."""
    clock = QuickClock()
    metrics = Metrics("an avs")
    nodes = NodePool([Node("http://127.0.0.1:9", 1, clock)], clock, Random(1))
    monitor = Monitor(Observer(clock, metrics), metrics, clock, Limits(), nodes)
    access = Access(token, clock, is_local=is_loopback(host), protects_all=protects_all, public_origin=public)
    plan = DashboardPlan("squares", CHAIN_ID, f"0x{MANAGER.hex()}", 2, 5, observes=False, make_decoder=Decoder)
    dashboard = Dashboard(plan, clock, access, monitor, lambda: None)
    sites = Sites()
    sites.attach(Site("", monitor, metrics.registry, pages=dashboard))
    web = Web((host, 0), sites, clock, access)
    jar = aiohttp.CookieJar(unsafe=True)  # the test's host is an address
    async with (
        open_ledger(filled.url, clock, CHAIN_ID, MANAGER, START_BLOCK) as ledger,
        aiohttp.ClientSession(trust_env=False, cookie_jar=jar) as session,
    ):
        monitor.ledger = ledger
        monitor.health = evaluate(replace(WELL, at_ms=clock.now_ms()), Limits())
        running = asyncio.create_task(web.run())
        try:
            while not web.port:
                assert not running.done()
                await asyncio.sleep(0.01)
            yield Served(web, monitor, session, access, ledger)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await nodes.close()


@cache
def _template(tasks: int) -> Filled:
    return fill(Path(mkdtemp(prefix="watcher-dashboard-")) / "watcher.db", tasks)


def filled_at(folder: Path, tasks: int = 400) -> Filled:
    """Return a filled ledger in a folder."""
    filled = _template(tasks)
    path = folder / "watcher.db"
    shutil.copy(str(filled.url.database), path)
    return replace(filled, url=filled.url.set(database=str(path)))
