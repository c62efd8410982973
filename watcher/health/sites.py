"""The addresses of the HTTP server: those of each AVS below its own prefix, and those of the process as a whole.

The only AVS of a file without [[avs]] stands at the top, and there is nothing beside it. Invariant: an AVS that starts,
ends or starts again changes its own addresses alone.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry
from yarl import URL

from watcher.health.monitor import Monitor
from watcher.health.node_api import NodeApi
from watcher.health.prefix import avs_in, prefix_of
from watcher.health.probe_fields import json_response, livez, readyz_fields
from watcher.health.summary import combined
from watcher.health.verdict import Health


class Pages(Protocol):
    """Pages that the server serves beside the probes; they check themselves who may read them."""

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the handlers of the pages."""

    def close(self) -> None:
        """End the streams that are open."""


MakePages = Callable[[Monitor, Callable[[], float | None]], Pages]
"""Makes the dashboard of an AVS from its monitor, and from what returns the seconds until an API is tried again."""


class Site:
    """The addresses of one AVS that runs."""

    def __init__(
        self,
        name: str,
        monitor: Monitor,
        registry: CollectorRegistry,
        *,
        next_probe_s: Callable[[], float | None] = lambda: None,
        contract: tuple[int, str] = (0, ""),
        pages: Pages | None = None,
    ) -> None:
        """Take what is shown.

        Args:
            name: the name of the AVS, "" for the only one.
            monitor: has the last evaluation.
            registry: the metrics.
            next_probe_s: returns the seconds until an API is tried again, as `readyz_fields` takes them.
            contract: the chain id and the address of the task manager.
            pages: the dashboard; None: there is none.
        """
        self.name = name
        self.monitor = monitor
        self.registry = registry
        self.pages = pages
        self._next_probe_s = next_probe_s
        self._contract = contract
        self.router = web.UrlDispatcher()
        prefix = prefix_of(name)
        self.router.add_get(f"{prefix}/livez", self._livez, allow_head=False)
        self.router.add_get(f"{prefix}/readyz", self._readyz, allow_head=False)
        NodeApi(lambda: monitor.health, prefix).add_to(self.router)
        if pages is not None:
            pages.add_to(self.router)

    @property
    def is_ready(self) -> bool:
        return self.monitor.stuck is None and self.monitor.health.ready

    async def _livez(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        stuck = self.monitor.stuck
        return livez([stuck] if stuck else [], is_live=stuck is None)

    async def _readyz(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        fields = readyz_fields(
            self.monitor.health,
            ready=self.is_ready,
            stuck=self.monitor.stuck,
            next_probe_s=self._next_probe_s(),
            contract=self._contract,
        )
        return json_response(fields, 200 if self.is_ready else 503)


class Sites(web.AbstractResource):
    """The addresses of all AVSs, as one resource of aiohttp's router."""

    def __init__(
        self,
        absent: Callable[[], Mapping[str, str]] = dict,
        make_pages: Callable[["Sites"], Pages | None] = lambda _sites: None,
        on_first: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin without an AVS.

        Args:
            absent: returns why AVSs do not run, by name; one that is tried again may have a site meanwhile.
            make_pages: makes the pages of the process as a whole.
            on_first: called when there is something to serve.
        """
        super().__init__()
        self._absent = absent
        self._sites: dict[str, Site] = {}
        self._on_first = on_first
        self._pages = make_pages(self)
        self._router = web.UrlDispatcher()
        self._router.add_get("/livez", self._livez, allow_head=False)
        self._router.add_get("/readyz", self._readyz, allow_head=False)
        NodeApi(self.health).add_to(self._router)
        if self._pages is not None:
            self._pages.add_to(self._router)

    def attach(self, site: Site) -> None:
        """Serve the addresses of an AVS."""
        self._sites[site.name] = site
        self._on_first()

    def detach(self, site: Site) -> None:
        """Serve the addresses of an AVS no more, and end its streams."""
        if site.pages is not None:
            site.pages.close()
        if self._sites.get(site.name) is site:
            del self._sites[site.name]

    def close(self) -> None:
        """End all streams, so that the server's stop waits for none."""
        for pages in (self._pages, *(site.pages for site in self._sites.values())):
            if pages is not None:
                pages.close()

    @property
    def running(self) -> Mapping[str, Site]:
        return self._sites

    def absent(self) -> dict[str, str]:
        """Return why each AVS that is not served does not run, by name."""
        return {name: reason for name, reason in self._absent().items() if name not in self._sites}

    def reasons(self, site: Site) -> list[str]:
        """Return why an AVS that has a site is not ready, one line each."""
        health, reason, stuck = site.monitor.health, self._absent().get(site.name), site.monitor.stuck
        return [*([stuck] if stuck else []), *([reason] if reason else []), *health.reasons]

    def registries(self) -> dict[str, CollectorRegistry]:
        """Return the metrics of each AVS that runs, by name."""
        return {name: site.registry for name, site in self._sites.items()}

    def health(self) -> Health:
        """Return the health of all AVSs as one."""
        healths = {name: site.monitor.health for name, site in self._sites.items()}
        return combined(healths, self.absent(), int(time.time() * 1000))

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Return the handler of an address: that of the AVS in its path, or of the only one, or of them all."""
        path = request.rel_url.path
        name = avs_in(path)
        site = self._sites.get(name)
        match = await (self._router if site is None else site.router).resolve(request)
        refusal = match.http_exception
        if refusal is None:
            return match, set()
        return None, refusal.allowed_methods if isinstance(refusal, web.HTTPMethodNotAllowed) else set()

    async def _livez(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        stuck = {name: reason for name, site in self._sites.items() if (reason := site.monitor.stuck)}
        # One that is stuck is started again alone; a restart of all would cost the others their time.
        is_live = not stuck or len(stuck) < len(self._sites)
        return livez([f"{name}: {reason}" for name, reason in stuck.items()], is_live=is_live)

    async def _readyz(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        health = self.health()
        is_ready = health.ready and all(site.is_ready for site in self._sites.values())
        stuck = [f"{name}: {site.monitor.stuck}" for name, site in self._sites.items() if site.monitor.stuck]
        fields = readyz_fields(health, ready=is_ready, stuck="; ".join(stuck) or None)
        avss = {name: _state(self.reasons(site), site.is_ready) for name, site in self._sites.items()}
        avss |= {name: _state([reason], False) for name, reason in self.absent().items()}
        return json_response({**fields, "avss": dict(sorted(avss.items()))}, 200 if is_ready else 503)

    # -- the rest of what aiohttp asks of a resource -------------------------------------------------------------------

    @property
    def canonical(self) -> str:
        return "/"

    def url_for(self, **_: str) -> URL:
        return URL("/")

    def add_prefix(self, prefix: str) -> None:
        raise NotImplementedError("the addresses stand at the top")

    def get_info(self) -> dict[str, object]:  # type: ignore[override]
        return {}

    def raw_match(self, path: str) -> bool:  # noqa: ARG002
        return False

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter(())


def _state(reasons: Sequence[str], is_ready: bool) -> dict[str, object]:
    return {"ready": is_ready, "reasons": list(reasons)}
