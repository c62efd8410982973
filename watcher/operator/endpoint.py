"""The address, credentials and limits of an operator API, checked once before the first request."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from watcher.errors import FixConfiguration
from watcher.validation import is_loopback


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address, credentials and limits of one API.

    `url` is not in the repr, because its path or query may hold a key; messages show `origin`.

    Raises:
        FixConfiguration: a value cannot work; lists every problem, shows no secret.
    """

    url: str = field(repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = 60.0  # from the connection to the last byte of the reply
    connect_timeout_s: float = 5.0  # name look-up, TCP and TLS together
    body_limit_bytes: int = 1 << 20
    concurrency: int = 4
    ca_file: Path | None = None  # PEM certificates, trusted instead of the public authorities
    allow_plain_http: bool = False

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise FixConfiguration(*problems)

    @property
    def origin(self) -> str:
        """Return scheme, host and port, the part of the address that messages may show."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")

    def tls(self) -> ssl.SSLContext:
        """Return a TLS context (1.2 or later) that verifies certificate and host name.

        It is not `ssl.create_default_context`: with SSL_CERT_FILE and SSLKEYLOGFILE the environment would decide which
        authorities count and where the session keys are written. For an address without TLS it trusts nobody: the
        public authorities take 25 ms and 1 MiB.

        Raises:
            FixConfiguration: `ca_file` cannot be read.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        authorities = str(self.ca_file) if self.ca_file else None
        if authorities is None and urlsplit(self.url).scheme == "https":
            import certifi  # late: plain HTTP does without

            authorities = certifi.where()
        try:
            if authorities is not None:
                context.load_verify_locations(cafile=authorities)
        except (OSError, ssl.SSLError) as exc:
            reason = exc.strerror or type(exc).__name__
            raise FixConfiguration(f"[operator] ca_file: not a file of PEM certificates ({reason})") from None
        return context


def _problems(endpoint: Endpoint) -> list[str]:
    problems: list[str] = []
    try:
        parts = urlsplit(endpoint.url)
        usable = bool(parts.hostname) and parts.scheme in ("http", "https") and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or not endpoint.url.isascii() or any(c <= " " or c == "\x7f" for c in endpoint.url):
        problems.append("[operator] url must look like https://host/path, in ASCII and without spaces")
    else:
        problems += _address_problems(parts, endpoint)
    if ":" in endpoint.username:
        problems.append("[operator] username must not contain a colon: basic authentication ends the name there")
    if endpoint.password and not endpoint.username:
        problems.append("[operator] there is a password but no username: set username")
    if not (endpoint.connect_timeout_s > 0 and 0 < endpoint.timeout_s < float("inf")):
        problems.append("[operator] timeout_s must be a positive number of seconds")
    if endpoint.concurrency < 1 or endpoint.body_limit_bytes < 1:
        problems.append("[operator] concurrency and body_limit_bytes must be at least 1")
    return problems


def _address_problems(parts: SplitResult, endpoint: Endpoint) -> list[str]:
    problems: list[str] = []
    if parts.username is not None or parts.password is not None:
        problems.append("[operator] url contains credentials: set username, and the password outside the file")
    if parts.scheme == "http" and not endpoint.allow_plain_http and not is_loopback(parts.hostname or ""):
        problems.append(
            "[operator] url is plain http to another machine, which shows the password to the network: use https"
        )
    return problems
