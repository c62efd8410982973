"""The files that pages need: styles, scripts and the icon, under addresses that change with their content.

Invariant: only the files listed here are served. They belong to the program and hold no data, so that nobody has to log
in for them.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).with_name("static")
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = (
    "app.css",
    "app.js",
    "charts.js",
    "icon.svg",
    "vendor/htmx.min.js",
    "vendor/uplot.min.css",
    "vendor/uplot.min.js",
)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file with its media type and its entity tag."""

    body: bytes
    content_type: str
    tag: str


@cache
def static_file(name: str) -> StaticFile:
    """Return a file of FILES. Raises KeyError for any other name."""
    if name not in FILES:
        raise KeyError(name)
    path = _FOLDER / name
    body = path.read_bytes()
    return StaticFile(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:16])


def address_of(name: str) -> str:
    """Return the address of a file of FILES, another one for other content."""
    return f"/static/{name}?{static_file(name).tag}"
