"""The hosted operator's APIs: reachable, and they take our credentials.

Invariant: nothing is asked that could be taken for an answer to sign. Whether an API knows a method is told only by
calling it, and what the hosted one does with half a call is not public: so no method it may have is ever called.
"""

import asyncio

from watcher.clock import SystemClock
from watcher.daemon import parts
from watcher.doctor.finding import MEND, UNAVAILABLE, Notes
from watcher.operator.client import Client
from watcher.settings.model import Settings

# A refusal by name takes no time; what takes longer does not answer.
_TIMEOUT_S = 20.0
# It asks for patience, whoever it is.
_MAY_PASS = (408, 425, 429)
_METHODS = {"proxy": "operator_createSigTaskResponse", "operator": "operator_createSigTask"}


async def check(settings: Settings, notes: Notes) -> None:
    """A line for [operator], and one for [operator.direct] where there is one."""
    operator = settings.operator
    impatient = operator.model_copy(update={"timeout_s": min(operator.timeout_s, _TIMEOUT_S)})
    clock = SystemClock()
    direct = parts.direct_client(impatient, clock)
    looks = [_probe("[operator]", operator.api, parts.client(impatient, clock), notes)]
    if direct is not None:
        looks.append(_probe("[operator.direct]", "operator", direct, notes))
    await asyncio.gather(*looks)


async def _probe(table: str, api: str, client: Client, notes: Notes) -> None:
    async with client:
        found = await client.probe()
    said = found.words.replace("[operator]", table)  # a client does not know which of the two it is
    if found.ok:
        words = f"{said}; {_METHODS[api]} is not called for a test"
        notes.ok("authorised", words if table == "[operator]" else f"{table} {words}")
    elif found.http_status in (401, 403):
        notes.wrong("credentials", f"{table} {said}", MEND)
    elif found.http_status is not None and found.http_status < 500 and found.http_status not in _MAY_PASS:
        advice = "" if "url" in found.words else "; correct its url"
        notes.wrong("address", f"{table} {said}{advice}", MEND)
    else:
        notes.wrong("reachable", f"{table} {said}; wait until it is back, or correct its url", UNAVAILABLE)
