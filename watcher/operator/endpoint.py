"""Where the hosted operator is and how to talk to it: checked once, before the first byte goes out."""

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from watcher.errors import FixConfiguration


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address, credentials and limits. Raises FixConfiguration, naming every problem and no secret.

    `url` is kept out of the repr because its path or query may hold a key; `origin` is what may be shown.
    """

    url: str = field(repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = 60.0  # for the whole exchange
    connect_timeout_s: float = 5.0  # name look-up, TCP and TLS together
    body_limit_bytes: int = 1 << 20
    concurrency: int = 4
    ca_file: Path | None = None  # trusted in place of the public authorities
    allow_plain_http: bool = False

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise FixConfiguration(*problems)

    @property
    def origin(self) -> str:
        """Scheme, host and port: all of the address that may appear in a message."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")

    def tls(self) -> ssl.SSLContext:
        """A context that verifies certificate and host name, TLS 1.2 at least. Raises FixConfiguration.

        Built by hand because ssl.create_default_context obeys SSLKEYLOGFILE and SSL_CERT_FILE, and so lets the
        environment decide whom to trust and who can read along.
        """
        import certifi

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cafile=str(self.ca_file) if self.ca_file else certifi.where())
        except (OSError, ssl.SSLError) as exc:
            reason = exc.strerror or type(exc).__name__
            raise FixConfiguration(f"[operator] ca_file cannot be read as PEM certificates ({reason})") from None
        return context


def _problems(endpoint: Endpoint) -> list[str]:
    found: list[str] = []
    try:
        parts = urlsplit(endpoint.url)
        usable = bool(parts.hostname) and parts.scheme in ("http", "https") and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or not endpoint.url.isascii() or any(c <= " " or c == "\x7f" for c in endpoint.url):
        found.append("[operator] url must look like https://host/path, in ASCII without blanks")
    else:
        found += _address_problems(parts, endpoint)
    if ":" in endpoint.username:
        found.append("[operator] username cannot hold a colon: basic authentication ends the name there")
    if endpoint.password and not endpoint.username:
        found.append("[operator] there is a password but no username: set username")
    if not (endpoint.connect_timeout_s > 0 and 0 < endpoint.timeout_s < float("inf")):
        found.append("[operator] timeout_s must be a positive number of seconds")
    if endpoint.concurrency < 1 or endpoint.body_limit_bytes < 1:
        found.append("[operator] concurrency and the limit of an answer's size must be at least 1")
    return found


def _address_problems(parts: SplitResult, endpoint: Endpoint) -> list[str]:
    found: list[str] = []
    if parts.username is not None or parts.password is not None:
        found.append("[operator] url holds credentials: move them to username and the password's own place")
    if parts.scheme == "http" and not endpoint.allow_plain_http and not _loopback(parts.hostname or ""):
        found.append(
            "[operator] url is plain http to another machine, which would show the password to the network: use https"
        )
    return found


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
