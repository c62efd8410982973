"""Redaction: no secret in anything that a person or a log collector reads.

Standard library only, no state. Invariant: the result of a `Redactor` is one line, shows no known secret in any of the
forms in which secrets travel, and of a URL no more than scheme, host and port.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote, urlsplit

from watcher.text import escape

HIDDEN = "[redacted]"
TEXT_LIMIT_CHARS = 8192

# A shorter secret is hidden only where it stands as a word of its own: without its two letters every word of the log
# would be unreadable, and the pattern of the gaps would show the letters.
_SHORT_CHARS = 4
# Shorter path segments ("v2", "rpc", "mainnet") are words, not keys.
_KEY_SEGMENT_CHARS = 8
_WORK_LIMIT_CHARS = 1 << 20

# The scheme is bounded, so that a long run of letters costs linear time.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})(:\\?/\\?/)([^\s\"'<>`|]+)")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/?#\\\[\]]+)(:[0-9]{1,5})?")
# With a digit, capital or =, else "basic authentication" would count as a header.
_AUTHORIZATION = re.compile(r"\b([Bb]asic|[Bb]earer)(\s+)(?=\S*[0-9A-Z=])[A-Za-z0-9+/=_.~-]{8,}")
# The characters beyond ASCII that match a letter of ASCII where case does not count.
_LIKE_ASCII = str.maketrans("\u0130\u0131\u017f\u212a", "iisk")
_REMOTE_SCHEMES = ("http", "ws", "postgres")
_PATH_SCHEMES = frozenset({"sqlite", "file"})  # a local path, which people need to see


def hide_urls(text: str) -> str:
    """Return `text` with every URL cut to scheme, host and port, without user, password, path, query and fragment."""
    # The pattern needs these characters; running it over the hex of an answer costs twenty times as much.
    return _URL.sub(_cut, text) if ":/" in text or ":\\/" in text else text


def show_url(url: str) -> str:
    """Return the public part of a URL: `scheme://host:port`, or `scheme://...` if the host is not certain."""
    match = _URL.match(url.strip())
    if match is None:
        return HIDDEN
    visible = escape(_cut(match))
    return visible if visible.endswith("//...") else visible.removesuffix("/...")


def _cut(match: re.Match[str]) -> str:
    scheme, slashes, rest = match.groups()
    if scheme.lower() in _PATH_SCHEMES:
        return match.group()
    # Known secrets are hidden by now: a hidden user is no part of the host, a hidden path still is a path.
    rest = rest.replace(f"{HIDDEN}@", "").replace(HIDDEN, "/")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    beyond = rest[len(authority) :]
    place = authority.rpartition("@")[2]
    host = _HOST.match(place)
    # With an @ further on, the "host" may be the first half of a password with a slash.
    if host is None or "@" in beyond:
        return f"{scheme}{slashes}..."
    after_host = place[host.end() :]
    tail = "/..." if beyond.strip("/\\") else beyond
    # Punctuation that ends a sentence stays; anything else behind the host may be a secret.
    return f"{scheme}{slashes}{host.group()}{after_host if set(after_host) <= set(').,;:!]}') else '...'}{tail}"


class Redactor:
    """A filter for text that hides known secrets in all their spellings, cuts URLs, and escapes.

    Of a secret that is a URL the user, password, path and query are hidden, also each alone: libraries log them apart.
    Other secrets are also hidden percent-encoded, JSON-escaped, in hex, and inside base64 at any offset, as in a header
    of basic authentication. A secret shorter than 4 characters is hidden as a whole word only.
    """

    __slots__ = ("_forms", "_longest", "_marks", "_secrets")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: frozenset[str] = frozenset()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Hide these secrets too; those known before stay hidden."""
        forms = {form for secret in secrets for part in _parts(secret) for form in _forms(part)}
        if self._forms and forms <= self._forms:
            return  # each of many AVSs adds what it has in common with the others
        self._forms |= forms
        # The longest first, or a prefix would leave the rest in sight.
        ordered = sorted(self._forms, key=len, reverse=True)
        self._longest = max(map(len, ordered), default=0)
        self._secrets = re.compile("|".join(map(_pattern, ordered)), re.IGNORECASE) if ordered else None
        self._marks = _marks(ordered)

    def __call__(self, text: str) -> str:
        """Return `text` on one line of at most `TEXT_LIMIT_CHARS` characters, without secrets."""
        cut = len(text) > _WORK_LIMIT_CHARS
        hidden = self.hide(text[:_WORK_LIMIT_CHARS])
        if cut:  # the first half of a secret may be left at the end
            hidden = hidden[: max(0, len(hidden) - self._longest)]
        visible = escape(hidden)
        if cut or len(visible) > TEXT_LIMIT_CHARS:
            return visible[:TEXT_LIMIT_CHARS] + "... (cut)"
        return visible

    def hide(self, text: str) -> str:
        """Return `text` of any length without secrets. Line breaks stay."""
        low = text.lower()
        if "basic" in low or "bearer" in low:
            text = _AUTHORIZATION.sub(rf"\1\2{HIDDEN}", text)
            low = text.lower()
        # Most texts hold no secret, and the pattern costs ten times as much as the search that shows it.
        if self._secrets is not None and (any(map(low.__contains__, self._marks)) or not text.isascii()):
            text = self._secrets.sub(HIDDEN, text)
        return hide_urls(text)

    def __repr__(self) -> str:
        return "Redactor()"


def _pattern(form: str) -> str:
    escaped = re.escape(form)
    return escaped if len(form) >= _SHORT_CHARS else rf"(?<!\w){escaped}(?!\w)"


def _marks(forms: Iterable[str]) -> list[str]:
    """Return texts of which one at least is in the lower case of each ASCII text that holds one of the forms."""
    marks: list[str] = []
    for form in sorted(forms, key=len):
        low = form.translate(_LIKE_ASCII).lower()
        if low.isascii() and not any(mark in low for mark in marks):
            marks.append(low)
    return marks


def _parts(secret: str) -> Iterator[str]:
    """Yield the parts of a secret that are secrets on their own."""
    try:
        url = urlsplit(secret.strip())
    except ValueError:
        url = urlsplit("")
    if not (url.netloc and url.scheme.startswith(_REMOTE_SCHEMES)):
        yield secret
        return
    userinfo = url.netloc.rpartition("@")[0]
    yield from (userinfo, *userinfo.split(":", 1)[1:])
    if url.path.strip("/"):
        yield url.path
    yield from (segment for segment in url.path.split("/") if len(segment) >= _KEY_SEGMENT_CHARS)
    yield from (url.query, url.fragment)
    for pair in url.query.split("&"):
        value = pair.partition("=")[2]
        if len(value) >= _SHORT_CHARS:
            yield value


def _forms(secret: str) -> Iterator[str]:
    """Yield the spellings of one secret."""
    plain = secret.strip("\r\n")
    if not plain:
        return
    for word in {plain, unquote(plain)}:
        raw = word.encode("utf-8", "surrogateescape") if word.isprintable() else word.encode("utf-8", "replace")
        quoted = json.dumps(word)[1:-1]
        yield from {word, quote(raw, safe=""), quote(raw), quote_plus(raw)}
        yield from {quoted, quoted.replace("/", "\\/"), json.dumps(word, ensure_ascii=False)[1:-1], repr(word)[1:-1]}
        yield from {escape(word), repr(raw)[2:-1]}
        if len(raw) >= _SHORT_CHARS:
            yield raw.hex()
            yield from _inside_base64(raw)


def _inside_base64(raw: bytes) -> Iterator[str]:
    """Yield the base64 characters that depend on `raw` alone when 0, 1 or 2 other bytes precede it."""
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw).decode()
        start = (offset * 8 + 5) // 6
        end = (offset + len(raw)) * 8 // 6
        core = encoded[start:end]
        yield from {core, core.replace("+", "-").replace("/", "_")}
