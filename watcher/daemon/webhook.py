"""The webhook that gets the roots, by one POST of JSON.

Own code rather than Apprise, which wraps a message of text in JSON of its own: a receiver can keep this body as it is,
and give it to `watcher audit verify --roots`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from watcher.errors import TryLater
from watcher.ledger.audit.roots import Root
from watcher.report.audit_roots import root_fields

_TIMEOUT_S = 15.0
_HEADERS = {"Content-Type": "application/json", "User-Agent": "avs-task-watcher"}


@dataclass(frozen=True, slots=True)
class Webhook:
    """The URL audit.webhook; a `Receiver`. Neither its repr nor its errors show the URL."""

    url: str = field(repr=False)
    chain_id: int
    task_manager: bytes
    name: str = "audit.webhook"
    keeps_all: bool = False

    async def take(self, roots: Sequence[Root]) -> None:
        """POST the roots as a JSON array of what `audit root --json` prints.

        Raises:
            TryLater: there is no reply with a status of 2xx. Redirects are not followed: they could lead to any host.
        """
        body = json.dumps([root_fields(root, self.chain_id, self.task_manager) for root in roots]).encode()
        try:
            # The body of the reply is never read: it says nothing, and may be of any length.
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar()
                ) as session,
                session.post(self.url, data=body, headers=_HEADERS, allow_redirects=False) as reply,
            ):
                status = reply.status
        except TimeoutError:
            raise TryLater(f"no reply within {_TIMEOUT_S:g} s") from None
        except Exception as error:  # noqa: BLE001 - a server can make the HTTP stack raise nearly anything
            raise TryLater(f"it cannot be reached ({type(error).__name__})") from None
        if not 200 <= status < 300:
            raise TryLater(f"HTTP {status}")
