"""Safe text: no secrets and no control characters in anything that a person or a log collector reads.

Standard library only, no state. Invariant: the result of a `Redactor` is one line, shows no known secret in any of the
forms in which secrets travel, and of a URL no more than scheme, host and port.
"""

import base64
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, quote_plus, unquote, urlsplit

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
_TARGET = "hook.target = "
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    """Return `text` on one line, with an escape for every character that could move the cursor or hide other text.

    These are the unprintable characters of Unicode: controls, line separators, bidirectional and zero-width marks,
    surrogates.
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else _spell(char) for char in text)


def _spell(char: str) -> str:
    code = ord(char)
    short = _SHORT_ESCAPES.get(char)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


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


_NAME_LIMIT_CHARS = 100
_COMPARED_LIMIT_CHARS = 80  # comparing names costs time squared
REASON_LIMIT = 500  # characters of one reason, error text or skip note
LINE_LIMIT = 1000  # characters of one line of captured output

_SPACES = re.compile(r"[ \t\r\n]+")
_STDLIB = f"{Path(os.__file__).parent}/"


def clean(text: str, limit: int = REASON_LIMIT) -> str:
    """Return `text` escaped and cut to `limit` characters."""
    safe = escape(text[:limit])
    return safe if len(text) <= limit and len(safe) <= limit else safe[:limit] + "..."


def one_line(text: str, limit_chars: int) -> str:
    """Return outside text as one printable line of at most `limit_chars` characters (4 or more).

    Runs of white space become one space, and UTF-8 can hold the result. Redact secrets before: a cut could leave half.
    """
    # The text may be a megabyte: cut before the work.
    start = text[: 8 * limit_chars]
    visible = escape(_SPACES.sub(" ", start).strip())
    if len(visible) <= limit_chars and len(start) == len(text):
        return visible
    return visible[: limit_chars - 3] + "..."


def shorten_list(names: Sequence[object], limit: int, *, each: int = _NAME_LIMIT_CHARS) -> str:
    """Return the first `limit` names, safe to print, and the number of those left out: `3, 4 and 17 more`.

    `each` limits the characters of one name.
    """
    visible = ", ".join(clean(str(name), each) for name in names[:limit])
    return visible if len(names) <= limit else f"{visible} and {len(names) - limit} more"


def did_you_mean(name: str, known: Sequence[str], *, show: Callable[[str], str] = str, cutoff: float = 0.6) -> str:
    """Return `; did you mean X?` with the known name nearest to `name`, or "" if none is similar.

    Args:
        name: what a person wrote.
        known: the names there are.
        show: puts the known name into the form the person must write.
        cutoff: how alike the two must be, from 0 (anything) to 1 (equal), as `difflib.get_close_matches` counts.
    """
    import difflib  # late: most starts of a hook's worker need no suggestion

    nearest = difflib.get_close_matches(name[:_COMPARED_LIMIT_CHARS], known, n=1, cutoff=cutoff)
    return f"; did you mean {show(clean(nearest[0], _NAME_LIMIT_CHARS))}?" if nearest else ""


def to_hex(data: bytes) -> str:
    """Return `0x` and two lower-case digits for each byte."""
    return "0x" + data.hex()


def setting(target: str) -> str:
    """Return the setting of the hook with its value, as a message names it; of a URL only the public part."""
    return f"{_TARGET}{clean(hide_urls(target), 200)!r}"


def setting_of_shadow(message: str) -> str:
    """Return the message of a runner or its worker, which name hook.target, with the setting of the shadow instead."""
    return f"hook.shadow.target = {message.removeprefix(_TARGET)}" if message.startswith(_TARGET) else message


def describe(error: BaseException, app_dir: str | None = None) -> str:
    """Return an exception and its place on one line: `ValueError: no such pair (squaring.py:12)`. Never raises."""
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001  a hook's __str__ may raise anything, SystemExit included
        text = f"its text cannot be shown, __str__ raised {type(second).__name__}"
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}" if error.filename and error.lineno else None
    else:
        where = location(error.__traceback__, app_dir)
    name = clean(type(error).__name__, 100)
    message = f"{name}: {clean(text)}" if text else name
    return f"{message} ({clean(where, 300)})" if where else message


def location(trace: TracebackType | None, app_dir: str | None = None) -> str | None:
    """Return `file:line` of the innermost frame in the author's code, or None if there is none.

    A frame under `app_dir` comes first, then one outside the standard library: the line that called a library explains
    an error from deep inside it. Frames of this package and of the import machinery do not count.
    """
    best, best_rank = None, 0
    home = f"{app_dir}/" if app_dir else None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        rank = _rank(file, trace.tb_frame.f_globals.get("__name__"), home)
        if rank and rank >= best_rank:
            best, best_rank = f"{file}:{trace.tb_lineno}", rank
        trace = trace.tb_next
    return best


def _rank(file: str, module: object, home: str | None) -> int:
    if file.startswith("<frozen importlib") or module == "importlib":
        return 0
    if isinstance(module, str) and module.startswith("watcher.hook."):
        return 0
    if "site-packages" in file:
        return 2
    if home and file.startswith(home):
        return 3
    return 1 if file.startswith(_STDLIB) else 2
