"""Who may read and act over HTTP: the token, sessions of browsers, and the bound on failed attempts. Pure but for time.

Invariants: tokens are compared in constant time; no value that leaves this file tells anything about the token; the
memory of it all is bounded.
"""

import hashlib
import hmac
import secrets
from collections import deque
from dataclasses import dataclass

from watcher.clock import Clock

SESSION_S = 12 * 3600.0
_SESSIONS_LIMIT = 64
# Wrong tokens within a minute, from one address and from all, before the next is refused unseen.
_FAILURES_LIMIT = 5
_ALL_FAILURES_LIMIT = 600
_FAILURES_S = 60.0
_ADDRESSES_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Session:
    """One login of a browser. `proof` stands in each form of it, so that no other page can send one (CSRF)."""

    proof: str
    ends_s: float

    def proves(self, proof: str) -> bool:
        """Return True if a form came from a page of this session."""
        return hmac.compare_digest(_digest(proof), _digest(self.proof))


class Access:
    """The token and the sessions that it opened."""

    def __init__(
        self, token: str, clock: Clock, *, is_local: bool, protects_all: bool = False, public_origin: str = ""
    ) -> None:
        """Take the rules.

        Args:
            token: the token; "": there is none, and whatever needs it is refused.
            clock: the time of sessions and of failed attempts.
            is_local: the server listens on a loopback address.
            protects_all: health and metrics need the token, too, and reading does on a loopback address.
            public_origin: scheme, name and port at which a reverse proxy serves the pages to anybody; "": none does.
        """
        self._token = _digest(token) if token else None
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}
        self._failures: dict[str, deque[float]] = {}
        self._all_failures: deque[float] = deque(maxlen=_ALL_FAILURES_LIMIT)
        self.public_origin = public_origin
        self.reading_is_open = is_local and not protects_all and not public_origin
        self.probes_are_open = not protects_all

    @property
    def has_token(self) -> bool:
        return self._token is not None

    @property
    def public_host(self) -> str:
        """Return name and port of the reverse proxy, as the Host header has them; "" without one."""
        return self.public_origin.partition("://")[2]

    def wait_s(self, address: str) -> float:
        """Return the seconds until an address may try a token again, 0 if it may now."""
        now_s = self._clock.monotonic_s()
        counted = (self._failures.get(address), self._all_failures)
        # A full queue drops its oldest time with each new one.
        waits_s = (times[0] + _FAILURES_S - now_s for times in counted if times and len(times) == times.maxlen)
        return max(0.0, *waits_s, 0.0)

    def accepts(self, token: str, address: str) -> bool:
        """Return True if this is the token. A wrong one counts against the address; ask `wait_s` before."""
        if self._token is not None and hmac.compare_digest(_digest(token), self._token):
            return True
        now_s = self._clock.monotonic_s()
        if address not in self._failures and len(self._failures) >= _ADDRESSES_LIMIT:
            self._failures.pop(next(iter(self._failures)))  # the bound on all addresses together still holds
        self._failures.setdefault(address, deque(maxlen=_FAILURES_LIMIT)).append(now_s)
        self._all_failures.append(now_s)
        return False

    def bears_token(self, authorization: str | None, address: str) -> bool:
        """Return True if an Authorization header has the token, as `Bearer TOKEN`."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token or self.wait_s(address) > 0:
            return False
        return self.accepts(token.strip(), address)

    def open_session(self) -> str:
        """Return the cookie of a new session. The oldest of too many sessions ends."""
        now_s = self._clock.monotonic_s()
        self._sessions = {key: session for key, session in self._sessions.items() if session.ends_s > now_s}
        while len(self._sessions) >= _SESSIONS_LIMIT:
            self._sessions.pop(next(iter(self._sessions)))
        cookie = secrets.token_urlsafe(32)
        self._sessions[_digest(cookie)] = Session(secrets.token_urlsafe(32), now_s + SESSION_S)
        return cookie

    def session(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie, None if there is none or it has ended."""
        session = self._sessions.get(_digest(cookie)) if cookie else None
        return session if session is not None and session.ends_s > self._clock.monotonic_s() else None

    def end_session(self, cookie: str | None) -> None:
        """End the session of a cookie, if there is one."""
        if cookie:
            self._sessions.pop(_digest(cookie), None)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
