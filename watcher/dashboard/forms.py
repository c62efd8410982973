"""The forms: log in and out, retry and skip a task.

Invariant: nothing is changed without the token (`gate`); each change is a verb of the ledger, as on the command line.
"""

import math
from collections.abc import Callable
from typing import Any

from aiohttp import web
from loguru import logger

from watcher.dashboard.gate import (
    Visitor,
    cookie_name,
    drop_cookie,
    is_cross_site,
    is_from_here,
    local_path,
    set_cookie,
    visitor,
)
from watcher.dashboard.page_maker import HEADERS, PageMaker
from watcher.dashboard.view import Page
from watcher.errors import FixUsage, TryLater
from watcher.health.access import Access
from watcher.health.monitor import Monitor
from watcher.ledger import manual
from watcher.ledger.store import Ledger
from watcher.text import one_line

_REASON_LIMIT_CHARS = 200
_FORM_TYPE = "application/x-www-form-urlencoded"


class Forms:
    """The handlers of forms."""

    def __init__(self, access: Access, monitor: Monitor, maker: PageMaker, base: str = "") -> None:
        """Take the parts; `base` is the path below which the pages are."""
        self._base = base
        self._access = access
        self._monitor = monitor
        self._maker = maker

    async def login_page(self, request: web.Request) -> web.StreamResponse:
        """Show the form that takes the token."""
        return await self._login(visitor(request, self._access), request.query.get("next", f"{self._base}/"))

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """Open a session for whoever sends the token, and lead to the page that was asked for."""
        who, address = Visitor(), request.remote or ""
        fields = await _fields(request)
        goal = local_path(fields.get("next", f"{self._base}/"))
        if is_cross_site(request, self._access):
            return await self._maker.message(who, 403, "the form comes from another page")
        if not self._access.has_token:
            return await self._login(who, goal)
        if (wait_s := self._access.wait_s(address)) > 0:
            response = await self._login(who, goal, "Too many wrong tokens. Wait a minute.", 429)
            response.headers["Retry-After"] = str(math.ceil(wait_s))
            return response
        if not self._access.accepts(fields.get("token", "").strip(), address):
            logger.warning("dashboard.login_refused: a login had a wrong token", address=address)
            return await self._login(who, goal, "This is not the token.", 403)
        response = _see(goal)
        set_cookie(request, response, self._access.open_session())
        return response

    async def log_out(self, request: web.Request) -> web.StreamResponse:
        """End the session of the browser."""
        who = visitor(request, self._access)
        if (refusal := await self._refusal(request, who, await _fields(request))) is not None:
            return refusal
        self._access.end_session(request.cookies.get(cookie_name(request)))
        response = _see(f"{self._base}/")
        drop_cookie(request, response)
        return response

    async def retry(self, request: web.Request) -> web.StreamResponse:
        """Retry a task."""
        return await self._act(request, lambda _fields: (manual.retry, ()))

    async def skip(self, request: web.Request) -> web.StreamResponse:
        """Skip a task, for the reason in the form."""
        return await self._act(request, lambda fields: (manual.skip, (_reason(fields),)))

    async def _act(
        self, request: web.Request, choose: Callable[[dict[str, str]], tuple[Callable[..., Any], tuple[str, ...]]]
    ) -> web.StreamResponse:
        who, fields = visitor(request, self._access), await _fields(request)
        if (refusal := await self._refusal(request, who, fields)) is not None:
            return refusal
        ledger: Ledger | None = self._monitor.ledger
        index = int(request.match_info["index"])
        verb, more = choose(fields)
        try:
            if ledger is None:
                raise TryLater("the watcher is starting, and its ledger is not open yet")
            await ledger.write(verb, ledger.source_id, index, *more, by=f"dashboard, from {request.remote}")
        except FixUsage as error:
            return await self._maker.message(who, 409, str(error), "tasks")
        except TryLater as error:
            return await self._maker.message(who, 503, str(error), "tasks")
        logger.info("dashboard.task_changed: a person changed a task", task_index=index, verb=verb.__name__)
        return _see(f"{self._base}/tasks/{index}")

    async def _refusal(self, request: web.Request, who: Visitor, fields: dict[str, str]) -> web.StreamResponse | None:
        """Return why a form is not taken, None if it is."""
        if not who.is_known:
            return await self._maker.message(who, 403, "log in first: only the token's owner can change anything")
        if who.session is None:  # a program that sends the token itself; browsers cannot be made to
            return await self._maker.message(who, 403, _ELSEWHERE) if is_cross_site(request, self._access) else None
        if not is_from_here(request, self._access):
            return await self._maker.message(who, 403, _ELSEWHERE)
        if not who.session.proves(fields.get("proof", "")):
            return await self._maker.message(who, 403, "the form is not from this session; load the page again")
        return None

    async def _login(self, who: Visitor, goal: str, problem: str = "", status: int = 200) -> web.Response:
        values = {"goal": local_path(goal), "problem": problem, "is_open": self._access.reading_is_open}
        return await self._maker.plain(Page("login.html", values, status), who, "login")


_ELSEWHERE = "the form comes from another page, or the browser does not say from which"


async def _fields(request: web.Request) -> dict[str, str]:
    """Return the fields of a form, the first of each name. Raises HTTPException for what is no form, or too long."""
    if not request.can_read_body:
        return {}
    if request.content_type != _FORM_TYPE:
        raise web.HTTPUnsupportedMediaType
    try:
        fields = await request.post()
    except (ValueError, LookupError, UnicodeDecodeError):  # not UTF-8, too many fields, a charset nobody knows
        raise web.HTTPBadRequest from None
    return {name: value for name, value in reversed(list(fields.items())) if isinstance(value, str)}


def _reason(fields: dict[str, str]) -> str:
    text = fields.get("reason", "").strip()
    return one_line(text, _REASON_LIMIT_CHARS) if text else ""


def _see(path: str) -> web.Response:
    return web.Response(status=303, headers={**HEADERS, "Location": path})
