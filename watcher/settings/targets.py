"""Checks of hook.target: a Python function, an entry point, a program, or services.

Invariant: no message holds the value, because a URL may hide a secret.
"""

import re
import shlex
from importlib.util import find_spec

from watcher.settings.checks import MAX_ENDPOINTS, one_line, parsed_url

_IMPORT_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*(\(\))?")
_ENTRY_POINT = re.compile(r"\w[\w.-]*")


def hook_target(text: str) -> str:
    """Return a target: `module:attribute`, the name of an entry point, `exec:PROGRAM ARGS`, or URLs."""
    if not text:
        return text
    one_line(text)
    if text.startswith("exec:"):
        return _program(text)
    if text.lower().startswith(("http:", "https:")):
        return _services(text)
    if text.lower().startswith("grpc:"):
        return _performer(text)
    if _IMPORT_TARGET.fullmatch(text) or (":" not in text and _ENTRY_POINT.fullmatch(text)):
        return text
    raise ValueError("must be module:attribute, such as squaring:respond, exec:PROGRAM ARGS or a URL")


def secret_parts(text: str) -> tuple[str, ...]:
    """Return the parts of a target that may hold secrets: the URLs of services, the command line of a program."""
    return () if text.lower().startswith("grpc:") else _urls(text) or (text,)


def _urls(text: str) -> tuple[str, ...]:
    """Return the URLs of a target, with spaces or commas between them; () for a target of another kind."""
    urls = re.split(r"[\s,]+", text.strip(" ,"))
    return tuple(urls) if text.lower().startswith(("http:", "https:")) else ()


def is_service(text: str) -> bool:
    """Return True if a target is a service, which runs outside of the watcher's sandbox."""
    return text.lower().startswith(("http:", "https:", "grpc:"))


def _services(text: str) -> str:
    urls = _urls(text)
    if len(urls) > MAX_ENDPOINTS:
        raise ValueError(f"must hold {MAX_ENDPOINTS} URLs at most")
    for position, url in enumerate(urls, 1):
        try:
            if parsed_url(url, "http", "https").fragment:
                raise ValueError("must not have a #fragment")
        except ValueError as error:
            raise ValueError(f"URL {position} {error}") from None
    if len(set(urls)) < len(urls):
        raise ValueError("holds the same URL twice")
    return text


def _program(text: str) -> str:
    try:
        args = shlex.split(text.removeprefix("exec:"))
    except ValueError:
        raise ValueError("has a quotation mark that is not closed") from None
    if not args:
        raise ValueError("must name a program, such as exec:./hook.sh")
    return text


def _performer(text: str) -> str:
    url = parsed_url(text, "grpc")
    if url.port is None or url.path.strip("/") or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("must be grpc://HOST:PORT, and nothing more")
    if find_spec("grpc") is None:
        raise ValueError("needs the extra grpc: install avs-task-watcher[grpc]")
    return text
