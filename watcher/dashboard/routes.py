"""The addresses of the dashboard on the HTTP server."""

from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import quote

from aiohttp import web

from watcher.clock import Clock
from watcher.dashboard.forms import Forms
from watcher.dashboard.gate import Visitor, is_too_long, visitor
from watcher.dashboard.page_maker import HEADERS, PageMaker
from watcher.dashboard.reports import Reports
from watcher.dashboard.static import static_file
from watcher.dashboard.stream import Stream
from watcher.dashboard.view import DashboardPlan, Page, View
from watcher.health.access import Access
from watcher.health.monitor import Monitor

_PAGES = {
    "/": "overview",
    "/tasks": "tasks",
    "/attempts": "attempts",
    "/shadow": "shadow",
    "/health": "health",
    "/audit": "audit",
}
# The part of the navigation to which a page belongs that has none of its own.
_BELONGS_TO = {"task": "tasks", "shadow": "attempts"}
_INDEX = r"{index:[0-9]{1,78}}"
UNPROTECTED = (
    "on an address that other machines reach, the dashboard needs a token: set WATCHER_HTTP__TOKEN or the credential "
    "file http__token, and restart"
)

Guarded = Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]


class Dashboard:
    """The pages, for `watcher.health.sites.Site`."""

    def __init__(
        self,
        plan: DashboardPlan,
        clock: Clock,
        access: Access,
        monitor: Monitor,
        next_probe_s: Callable[[], float | None],
    ) -> None:
        """Take what the pages are made from; `next_probe_s` returns the seconds until an API is tried again."""
        self._access = access
        self._base = plan.base
        self._maker = PageMaker(plan, monitor, access, clock, next_probe_s)
        self._forms = Forms(access, monitor, self._maker, plan.base)
        self._stream = Stream(monitor, clock)
        self._reports = Reports(plan, monitor, clock, self._maker)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the pages, the forms, the events and the files."""
        base = self._base
        for path, name in _PAGES.items():
            router.add_get(base + path, self._guarded(partial(self._page, name)), allow_head=False)
        if base:
            router.add_get(base, self._guarded(partial(self._page, "overview")), allow_head=False)
        router.add_get(f"{base}/tasks/{_INDEX}", self._guarded(partial(self._page, "task")), allow_head=False)
        router.add_get(f"{base}/tasks/{_INDEX}.json", self._guarded(self._story), allow_head=False)
        router.add_get(f"{base}/reports", self._guarded(self._reports.page), allow_head=False)
        reports = f"{base}/reports/service-level.{{kind:html|json}}"
        router.add_get(reports, self._guarded(self._reports.file), allow_head=False)
        router.add_get(f"{base}/events", self._guarded(self._events), allow_head=False)
        router.add_get("/static/{name:.+}", serve_static, allow_head=False)
        router.add_get(f"{base}/login", self._forms.login_page, allow_head=False)
        router.add_post(f"{base}/login", self._forms.log_in)
        router.add_post(f"{base}/logout", self._forms.log_out)
        router.add_post(f"{base}/tasks/{_INDEX}/retry", self._forms.retry)
        router.add_post(f"{base}/tasks/{_INDEX}/skip", self._forms.skip)

    def close(self) -> None:
        """End the streams of events."""
        self._stream.end()

    def _guarded(self, handler: Guarded) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return a handler behind the checks of who may read."""

        async def serve(request: web.Request) -> web.StreamResponse:
            who = visitor(request, self._access)
            if is_too_long(request):
                return await self._maker.message(who, 414, "the query string is too long")
            if who.is_known or self._access.reading_is_open:
                return await handler(request, who)
            if not self._access.has_token:
                return await self._maker.message(who, 403, UNPROTECTED)
            if "text/html" in request.headers.get("Accept", "") and "HX-Request" not in request.headers:
                target = quote(request.path_qs, safe="")
                return web.Response(status=303, headers={**HEADERS, "Location": f"{self._base}/login?next={target}"})
            # htmx then loads the whole page, which leads to the login.
            headers = {**HEADERS, "WWW-Authenticate": "Bearer", "HX-Refresh": "true"}
            return web.Response(status=401, text="the token is needed\n", headers=headers)

        return serve

    async def _page(self, name: str, request: web.Request, who: Visitor) -> web.StreamResponse:
        index = int(request.match_info["index"]) if "index" in request.match_info else None

        def make(view: View) -> Page:
            from watcher.dashboard import pages  # late: a daemon that nobody looks at does not load them

            return pages.make(name, view, index)

        return await self._maker.page(make, dict(request.query), who, _BELONGS_TO.get(name, name))

    async def _story(self, request: web.Request, who: Visitor) -> web.StreamResponse:  # noqa: ARG002
        return await self._maker.story(int(request.match_info["index"]))

    async def _events(self, request: web.Request, who: Visitor) -> web.StreamResponse:  # noqa: ARG002
        return await self._stream.serve(request)


async def serve_static(request: web.Request) -> web.StreamResponse:
    """Answer with a file of the program; it is read once, and small."""
    try:
        file = static_file(request.match_info["name"])
    except KeyError:
        raise web.HTTPNotFound from None
    headers = {**HEADERS, "ETag": f'"{file.tag}"', "Cache-Control": "public, max-age=31536000, immutable"}
    if file.tag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=headers)
