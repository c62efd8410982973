"""Checks of single values of the settings, beyond their types.

Each check returns the value in its uniform form, or raises ValueError with a message for a person. Invariant: no
message holds the value, because it may be a secret, or hide one.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from watcher.abi.layout import layout
from watcher.validation import is_loopback

URL_LIMIT_CHARS = 2048
MAX_ENDPOINTS = 16
MAX_ALERT_URLS = 8
MAX_DEPTH_BLOCKS = 1_000_000
MAX_BLOCK = 2**63 - 1
TOKEN_LIMIT_CHARS = 16  # the fewest

_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{40}")
_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}")
_PORT = re.compile(r"[0-9]{1,5}")
_ALERT_URL = re.compile(r"[A-Za-z][A-Za-z0-9]{1,31}://\S+")
_ALERT_HOST = re.compile(r"localhost|[\w-]+(\.[\w-]+)+|\[[0-9A-Fa-f:.]+\]?")
_TOKEN_CHARS = 6  # shorter parts are words, not keys


def one_line(text: str) -> str:
    """Return text without control characters."""
    if not text.isprintable():
        raise ValueError("must be one line of printable text")
    return text


def lower(value: Any) -> Any:
    """Return text in lower case, any other value as it is."""
    return value.lower() if isinstance(value, str) else value


def rpc_urls(value: Any) -> Any:
    """Return 1 to 16 URLs, at least one of them http(s); a user, password or key in them is allowed."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(url, str) for url in value):
        raise ValueError('must be a list of URLs, such as ["http://127.0.0.1:8545"]')
    if len(value) > MAX_ENDPOINTS:
        raise ValueError(f"must hold {MAX_ENDPOINTS} URLs at most")
    urls = tuple(url.strip() for url in value)
    for position, url in enumerate(urls, 1):
        try:
            parsed_url(url, "http", "https", "ws", "wss")
        except ValueError as error:
            raise ValueError(f"URL {position} {error}") from None
    if not any(url.lower().startswith("http") for url in urls):
        raise ValueError("must hold at least one http:// or https:// URL: ws:// only wakes the watcher up")
    if len(set(urls)) < len(urls):
        raise ValueError("holds the same URL twice")
    return urls


def operator_url(text: str, *, plain_http: bool) -> str:
    """Return an http(s) URL; http only to this machine unless allowed, for the request carries the password."""
    url = parsed_url(text, "http", "https")
    if "@" in url.netloc:
        raise ValueError("must not hold a user or password: use operator.username and WATCHER_OPERATOR__PASSWORD")
    if url.fragment:
        raise ValueError("must not have a #fragment")
    if url.scheme == "http" and not plain_http and not is_loopback(url.hostname or ""):
        raise ValueError("must be https:// to another machine (or set operator.allow_plain_http = true)")
    return text


def alert_urls(value: Any) -> Any:
    """Return up to 8 Apprise URLs. Apprise, which is slow to load, checks their services on first use."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(url, str) for url in value):
        raise ValueError("must be URLs as Apprise writes them, one a line")
    if len(value) > MAX_ALERT_URLS:
        raise ValueError(f"must hold {MAX_ALERT_URLS} URLs at most")
    for position, url in enumerate(value, 1):
        if not _ALERT_URL.fullmatch(url) or not url.isprintable() or len(url) > URL_LIMIT_CHARS:
            raise ValueError(f"URL {position} is not a URL as Apprise writes them, such as slack://... or json://...")
    return tuple(value)


def alert_secrets(url: str) -> Iterator[str]:
    """Return the secrets of an Apprise URL: the whole URL, and each part but the host."""
    yield url
    _, _, rest = url.partition("://")
    authority, beyond, *_ = *re.split(r"[/?#]", rest, maxsplit=1), ""
    user, _, host = authority.rpartition("@")
    if not _ALERT_HOST.fullmatch(host.partition(":")[0] if not host.startswith("[") else host.partition("]")[0]):
        beyond = f"{host}/{beyond}"  # many services keep a token where others have a host
    for part in (user, *re.split(r"[:@/]", user), *re.split(r"[/?&=#@:]", beyond)):
        if len(part) >= _TOKEN_CHARS:
            yield part


def address(text: str) -> str:
    """Return 20 bytes of hex in lower case. Mixed case must be the checksum of EIP-55."""
    if not _ADDRESS.fullmatch(text):
        raise ValueError("must be an address: 0x and 40 hex digits")
    digits = text[2:]
    if not digits.strip("0"):
        raise ValueError("must be the address of the task manager contract, not zero")
    if digits not in (digits.lower(), digits.upper()) and digits != _checksummed(digits.lower()):
        raise ValueError("has a wrong checksum (EIP-55): a digit or the case of a letter is mistyped")
    return "0x" + digits.lower()


def _checksummed(digits: str) -> str:
    from eth_hash.auto import keccak  # late: it costs start-up time, and most commands never need it

    marks = keccak(digits.encode()).hex()
    return "".join(digit.upper() if int(mark, 16) >= 8 else digit for digit, mark in zip(digits, marks, strict=False))


def start_block(value: Any) -> Any:
    """Return a block number or "latest"."""
    return _number_or(value, ("latest",), MAX_BLOCK, 'must be a block number (0 or more) or "latest"')


def finality(value: Any) -> Any:
    """Return "finalized", "safe" or a depth in blocks."""
    message = f'must be "finalized", "safe" or a depth in blocks, 0 to {MAX_DEPTH_BLOCKS}'
    return _number_or(value, ("finalized", "safe"), MAX_DEPTH_BLOCKS, message)


def _number_or(value: Any, names: tuple[str, ...], most: int, message: str) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
    if is_number or (isinstance(value, str) and value in names):
        return value
    raise ValueError(message)


def quorum_numbers(value: Any) -> Any:
    """Return the numbers of quorums, each once."""
    if not isinstance(value, (list, tuple)):
        raise ValueError("must be a list of quorum numbers, such as [0]")
    if not all(isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= 255 for number in value):
        raise ValueError("must be a list of whole numbers from 0 to 255, such as [0]")
    if len(set(value)) < len(value):
        raise ValueError("names a quorum twice")
    return tuple(value)


def roles(value: Any) -> Any:
    """Return the names of roles, each once."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise ValueError('must be a list of roles, such as ["respond"]')
    names = tuple(part.strip().lower() for name in value for part in name.split(",") if part.strip())
    if not names:
        raise ValueError("must name at least one role")
    if len(set(names)) < len(names):
        raise ValueError("names a role twice")
    return names


def method(text: str) -> str:
    """Return the name of a function without its arguments, or ""."""
    if text and not (text.isascii() and text.replace("$", "_").isidentifier()):
        raise ValueError('must be the name of a contract function, such as "respondToTask"')
    return text


def username(text: str) -> str:
    """Return a name that basic authentication can carry."""
    if not text:
        raise ValueError("must not be empty")
    if ":" in text:
        raise ValueError("must not hold a colon: basic authentication cannot carry it")
    return one_line(text)


def username_or_none(text: str) -> str:
    """Return a name that basic authentication can carry, or ""."""
    return text and username(text)


def password(text: str) -> str:
    """Return one line that is not empty."""
    if not text:
        raise ValueError("is empty")
    if len(text) > 1024 or not text.isprintable():
        raise ValueError("must be one line of at most 1024 printable characters")
    return text


def token(text: str) -> str:
    """Return a password that nobody guesses: 16 characters or more."""
    if len(password(text)) < TOKEN_LIMIT_CHARS:
        raise ValueError(f"must have {TOKEN_LIMIT_CHARS} characters or more; `openssl rand -hex 32` makes one")
    return text


def file(text: str) -> str:
    """Return the path of an existing file, or ""."""
    try:
        is_there = not text or Path(text).is_file()
    except (OSError, ValueError):  # longer than any path, say
        is_there = False
    if not is_there:
        raise ValueError("must be a file that is there")
    return text


def folder_or_none(text: str) -> str:
    """Return the path of a folder, or ""."""
    return text and folder(text)


def value_type(text: str) -> str:
    """Return the ABI types of a message or an answer, or "". Raises BadType, which quotes the part that is no type."""
    layout("value", text)
    return text


def new_file_or_none(text: str) -> str:
    """Return the path of a file, which need not exist yet, or ""."""
    if "\0" in text or len(text) > 4096 or text.endswith("/"):
        raise ValueError("must be the path of a file")
    return one_line(text)


def folder(text: str) -> str:
    """Return the path of a folder, which need not exist yet."""
    if not text or "\0" in text or len(text) > 4096:
        raise ValueError("must be the path of a folder")
    return one_line(text)


def listen(text: str) -> str:
    """Return host:port, or ""."""
    if text:
        host_port(text)
    return text


def public_url(text: str) -> str:
    """Return scheme, host and port as browsers send them as an origin, or ""."""
    if not text:
        return text
    url = parsed_url(text, "https", "http")
    if url.username or url.password or url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError("must be scheme and name alone, such as https://watcher.example")
    port = "" if url.port in (None, 443 if url.scheme == "https" else 80) else f":{url.port}"
    host = url.hostname or ""
    return f"{url.scheme}://" + (f"[{host}]" if ":" in host else host) + port


def host_port(text: str) -> tuple[str, int]:
    """Return the host and the port of host:port; an IPv6 host stands in brackets.

    Raises:
        ValueError: it is not that.
    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_host = (
        bool(bare) and bare.isprintable() and not re.search(r"[\s/@\[\]]", bare) and (bare != host or ":" not in host)
    )
    if not (colon and is_host and _PORT.fullmatch(port) and int(port) <= 65_535):
        raise ValueError('must be host:port, such as 127.0.0.1:9010, or "" to turn it off')
    return bare, int(port)


def parsed_url(text: str, *schemes: str) -> SplitResult:
    """Return the parts of a URL of one of these schemes, with a host. Raises ValueError for anything else."""
    allowed = " or ".join(f"{scheme}://" for scheme in schemes)
    if not text.isascii() or re.search(r"[\x00-\x20\x7f\"<>\\^`{|}]", text) or len(text) > URL_LIMIT_CHARS:
        raise ValueError("is not a valid URL")
    try:
        url = urlsplit(text)
        host, _ = url.hostname, port_of(url)
    except ValueError:
        raise ValueError("is not a valid URL") from None
    if url.scheme not in schemes:
        raise ValueError(f"must begin with {allowed}")
    if not host:
        raise ValueError("names no host")
    return url


def port_of(url: SplitResult) -> int | None:
    """Return the port. Raises ValueError for any other text, and for 0."""
    if url.port == 0:
        raise ValueError("port 0")
    return url.port
