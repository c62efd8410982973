"""Who may see a page, and which forms are taken: the checks of each request, before anything is read or written.

Invariants: a form is taken with the token alone, from a page of ours in a session of that token, or from a program that
sends the token itself; what another web page makes a browser send has none of these.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from watcher.health.access import SESSION_S, Access, Session

_QUERY_LIMIT_CHARS = 2048
COOKIE = "watcher_session"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks. `session` is the browser's login; `bears_token`: a program that sent the token itself."""

    session: Session | None = None
    bears_token: bool = False

    @property
    def is_known(self) -> bool:
        return self.session is not None or self.bears_token

    @property
    def proof(self) -> str:
        """Return what stands in each form of this visitor's pages, "" without a session."""
        return "" if self.session is None else self.session.proof


def visitor(request: web.Request, access: Access) -> Visitor:
    """Return who asks, by the cookie or the Authorization header."""
    session = access.session(request.cookies.get(cookie_name(request)))
    if session is not None:
        return Visitor(session)
    return Visitor(bears_token=access.bears_token(request.headers.get("Authorization"), request.remote or ""))


def cookie_name(request: web.Request) -> str:
    """Return the cookie's name. It has the port: browsers send one machine's cookies to all of its ports."""
    address = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return f"{COOKIE}_{address[1]}" if address else COOKIE


def is_too_long(request: web.Request) -> bool:
    """Return True for a query string longer than any that a page of ours makes."""
    return len(request.rel_url.raw_query_string) > _QUERY_LIMIT_CHARS


def is_from_here(request: web.Request, access: Access) -> bool:
    """Return True unless the browser says that another page sent this form (Origin, else Referer).

    Ours are the pages of the host that was asked, and those that a reverse proxy shows (http.public_url), which may
    ask with another Host header.
    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    """
    source = request.headers.get("Origin") or request.headers.get("Referer")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none") or not source:
        return False
    try:
        parts = urlsplit(source)
    except ValueError:
        return False
    if f"{parts.scheme}://{parts.netloc}".lower() == access.public_origin:
        return True
    return parts.scheme in ("http", "https") and parts.netloc.lower() == (request.headers.get("Host") or "").lower()


def is_cross_site(request: web.Request, access: Access) -> bool:
    """Return True if the request names a page of another site as its source."""
    has_source = any(name in request.headers for name in ("Origin", "Referer", "Sec-Fetch-Site"))
    return has_source and not is_from_here(request, access)


def set_cookie(request: web.Request, response: web.StreamResponse, cookie: str) -> None:
    """Give the browser its session."""
    is_https = (request.headers.get("Origin") or "").startswith("https://")
    response.set_cookie(
        cookie_name(request), cookie, max_age=int(SESSION_S), httponly=True, samesite="Strict", secure=is_https
    )


def drop_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Have the browser forget its session."""
    response.del_cookie(cookie_name(request), httponly=True, samesite="Strict")


def local_path(text: str) -> str:
    """Return a path of this server to go to after the login; "/" for anything that could lead elsewhere."""
    is_path = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isascii() and text.isprintable()
    return text if is_path and "\\" not in text and len(text) <= _QUERY_LIMIT_CHARS else "/"
