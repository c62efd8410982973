"""The page at the top of a process with several AVSs: each one, how it is, and the way to its own pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from watcher.dashboard.gate import is_too_long, visitor
from watcher.dashboard.page_maker import HEADERS
from watcher.dashboard.routes import UNPROTECTED, serve_static
from watcher.files import program_version
from watcher.health.access import Access
from watcher.health.prefix import prefix_of
from watcher.health.sites import Site, Sites

_REASONS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One AVS on the page. `base` is "" for one that does not run; numbers are None where they are not known."""

    name: str
    base: str
    is_ready: bool
    reasons: tuple[str, ...]
    cursor_block: int | None = None
    lag_blocks: int | None = None
    open_tasks: int | None = None
    blocks_left: int | None = None
    seconds_left: float | None = None


class AvsList:
    """The page, made from the last evaluations: it reads no ledger."""

    def __init__(self, sites: Sites, access: Access) -> None:
        self._sites = sites
        self._access = access

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the page, the login of any AVS, and the files."""
        router.add_get("/", self._page, allow_head=False)
        router.add_get("/login", self._login, allow_head=False)
        router.add_get("/static/{name:.+}", serve_static, allow_head=False)

    def close(self) -> None:
        """Do nothing: the page has no stream."""

    async def _page(self, request: web.Request) -> web.StreamResponse:
        from watcher.dashboard.rendering import render  # late: the first page loads the engine of the templates

        who = visitor(request, self._access)
        if is_too_long(request):
            return web.Response(status=414, text="the query string is too long\n", headers=HEADERS)
        if not (who.is_known or self._access.reading_is_open):
            if not self._access.has_token:
                return web.Response(status=403, text=UNPROTECTED + "\n", headers=HEADERS)
            return await self._login(request)
        lines = [_line(site, self._sites.reasons(site)) for site in self._sites.running.values()]
        lines += [Line(name, "", False, (reason,)) for name, reason in self._sites.absent().items()]
        lines.sort(key=lambda line: (line.is_ready, line.name))
        html = render("avss.html", {"lines": lines, "version": program_version()})
        return web.Response(text=html, content_type="text/html", charset="utf-8", headers=HEADERS)

    async def _login(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        """Lead to the login of an AVS; its session is good for all."""
        site = next(iter(self._sites.running.values()), None)
        if site is None:
            return web.Response(status=503, text="no AVS runs yet\n", headers={**HEADERS, "Retry-After": "5"})
        target = f"{prefix_of(site.name)}/login?next={quote('/', safe='')}"
        return web.Response(status=303, headers={**HEADERS, "Location": target})


def _line(site: Site, reasons: Sequence[str]) -> Line:
    health = site.monitor.health
    work = health.work
    return Line(
        site.name,
        prefix_of(site.name),
        site.is_ready,
        tuple(reasons[:_REASONS_SHOWN]),
        None if work is None else work.cursor_block,
        None if work is None else work.lag_blocks,
        None if work is None else work.open_tasks,
        health.blocks_left,
        health.seconds_left,
    )
