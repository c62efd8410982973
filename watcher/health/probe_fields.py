"""The bodies of /livez and /readyz."""

import json
from dataclasses import asdict

from aiohttp import web

from watcher.health.verdict import Health


def livez(reasons: list[str], *, is_live: bool) -> web.Response:
    """Return the reply of /livez."""
    return json_response({"live": is_live, "reasons": reasons}, 200 if is_live else 503)


def readyz_fields(
    health: Health,
    *,
    ready: bool,
    stuck: str | None,
    next_probe_s: float | None = None,
    contract: tuple[int, str] = (0, ""),
) -> dict[str, object]:
    """Return the body of /readyz. Fields may be added; none is removed or changes its meaning.

    Args:
        health: the last evaluation.
        ready: whether the watcher is ready.
        stuck: why the process makes no progress, None while it does.
        next_probe_s: seconds until an API that takes no requests is tried again, None while every API takes them.
        contract: the chain id and the address of the task manager.
    """
    work = health.work
    return {
        "ready": ready,
        "reasons": [*([stuck] if stuck else []), *health.reasons],
        "at_ms": health.at_ms,
        "services": {
            service.id: {"status": service.status, "words": service.message, "since_ms": service.since_ms}
            for service in health.services
        },
        "troubles": [
            {"key": condition.key, "words": condition.message, "since_ms": condition.since_ms}
            for condition in health.conditions
        ],
        "cursor_block": None if work is None else work.cursor_block,
        "head_block": None if work is None else work.head_block,
        "open_tasks": None if work is None else work.open_tasks,
        "nearest_deadline_blocks": health.blocks_left,
        "nearest_deadline_seconds": health.seconds_left,
        "next_probe_seconds": next_probe_s,
        "chain_id": contract[0],
        "task_manager": contract[1],
        "replica": None if health.replica is None else asdict(health.replica),
    }


def json_response(fields: dict[str, object], status: int) -> web.Response:
    """Return a reply in JSON."""
    return web.Response(text=json.dumps(fields) + "\n", status=status, content_type="application/json")
