"""Check of the hosted operator's APIs: reachable, and they take our credentials.

Invariant: no request could be taken for an answer to sign. Only a call shows whether an API knows a method, and the
hosted one does not document its reaction to half a call: so no method it may have is ever called.
"""

import asyncio

from watcher.clock import SystemClock
from watcher.daemon import parts
from watcher.doctor.finding import MISCONFIGURED, UNAVAILABLE, Notes
from watcher.operator.client import Client
from watcher.settings.operator import Operator

# A refusal of a name takes no time; an API that takes longer does not answer.
_TIMEOUT_S = 20.0
# HTTP status codes that ask for patience.
_MAY_PASS = (408, 425, 429)
_METHODS = {"proxy": "operator_createSigTaskResponse", "operator": "operator_createSigTask"}


async def check_api(operator: Operator, notes: Notes) -> None:
    """Add a finding for [operator], and one for [operator.direct] where it has a url."""
    impatient = operator.model_copy(update={"timeout_s": min(operator.timeout_s, _TIMEOUT_S)})
    clock = SystemClock()
    direct = parts.direct_client(impatient, clock)
    probes = [_probe("[operator]", operator.api, parts.client(impatient, clock), notes)]
    if direct is not None:
        probes.append(_probe("[operator.direct]", "operator", direct, notes))
    await asyncio.gather(*probes)


async def _probe(table: str, api: str, client: Client, notes: Notes) -> None:
    async with client:
        probe = await client.probe()
    reply = probe.message.replace("[operator]", table)  # a client does not know which of the two it is
    if probe.ok:
        message = f"{reply}; {_METHODS[api]} is not called for a test"
        notes.ok("authorised", message if table == "[operator]" else f"{table} {message}")
    elif probe.http_status in (401, 403):
        notes.wrong("credentials", f"{table} {reply}", MISCONFIGURED)
    elif probe.http_status is not None and probe.http_status < 500 and probe.http_status not in _MAY_PASS:
        advice = "" if "url" in probe.message else "; correct its url"
        notes.wrong("address", f"{table} {reply}{advice}", MISCONFIGURED)
    else:
        notes.wrong("reachable", f"{table} {reply}; wait until it is back, or correct its url", UNAVAILABLE)
