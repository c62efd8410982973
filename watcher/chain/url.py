"""The address of an endpoint, which may hold a key in its path, query or userinfo.

Invariant: the whole URL leaves this value only through `whole`, for the one call that opens a connection. Whatever is
shown, logged or put into an error is `origin`, and texts that came back from the endpoint go through `scrub` first.
"""

from urllib.parse import unquote, urlsplit

from watcher.errors import FixConfiguration
from watcher.redact import Redactor

# Shorter path segments ("v2", "rpc", "mainnet") are names, not keys; cutting them out would only garble messages.
_KEY_LENGTH_MIN = 8


class Url:
    """One endpoint's URL. `str` and `repr` show `scheme://host[:port]` and nothing else."""

    __slots__ = ("_redactor", "_whole", "origin")

    def __init__(self, whole: str) -> None:
        """Raises FixConfiguration when `whole` is no URL with a scheme and a host; the words do not repeat it."""
        try:
            parts = urlsplit(whole)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or not parts.scheme:
            raise FixConfiguration("chain.rpc_urls: an entry is not a URL of the form scheme://host[:port][/path]")
        shown = f"[{host}]" if ":" in host else host
        self.origin = f"{parts.scheme.lower()}://{shown}" + (f":{port}" if port is not None else "")
        self._whole = whole
        found = {parts.query, parts.username or "", parts.password or "", parts.path.strip("/")}
        found.update(segment for segment in parts.path.split("/"))
        found.update(pair.partition("=")[2] for pair in parts.query.split("&"))
        found.update([unquote(secret) for secret in found])
        # Also as they travel: the user and password in the base64 of a header, a key percent-encoded.
        self._redactor = Redactor([whole, *(secret for secret in found if len(secret) >= _KEY_LENGTH_MIN)])

    def whole(self) -> str:
        """The URL with its secrets. Only for opening a connection."""
        return self._whole

    def scrub(self, text: str) -> str:
        """`text` without the URL's secrets: an endpoint may echo the path it was asked on, or our credentials."""
        return self._redactor.hide(text)

    def __str__(self) -> str:
        return self.origin

    def __repr__(self) -> str:
        return f"Url({self.origin})"
