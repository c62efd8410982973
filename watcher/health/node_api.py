"""The EigenLayer AVS Node API, specification v0.0.1, over our `Health`.

Paths: `/eigen/node`, `/eigen/node/health`, `/eigen/node/services`, `/eigen/node/services/{id}/health`. The two health
paths reply by status code alone: 200 healthy, 206 partially healthy, 503 unhealthy.
https://docs.eigenlayer.xyz/eigenlayer/avs-guides/spec/api
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from watcher.files import program_version
from watcher.health.verdict import Health, Status

SPEC_VERSION = "v0.0.1"
NODE_NAME = "avs-task-watcher"
_STATUS = {Status.UP: 200, Status.INITIALIZING: 206, Status.DOWN: 503}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NodeApi:
    """The four handlers, below a prefix. `health` returns the last evaluation."""

    def __init__(self, health: Callable[[], Health], prefix: str = "") -> None:
        self._health = health
        self._prefix = prefix

    def add_to(self, router: web.UrlDispatcher) -> None:
        for path, handler in (
            ("/eigen/node", self._node),
            ("/eigen/node/health", self._node_health),
            ("/eigen/node/services", self._services),
            ("/eigen/node/services/{id}/health", self._service_health),
        ):
            router.add_get(self._prefix + path, _versioned(handler), allow_head=False)

    async def _node(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        return web.json_response(
            {"node_name": NODE_NAME, "spec_version": SPEC_VERSION, "node_version": program_version()}
        )

    async def _node_health(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        return web.Response(status=_STATUS[self._health().status])

    async def _services(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        services = [
            {
                "id": service.id,
                "name": service.name,
                "description": service.description,
                "status": service.status,
            }
            for service in self._health().services
        ]
        return web.json_response({"services": services})

    async def _service_health(self, request: web.Request) -> web.StreamResponse:
        service = self._health().service(request.match_info["id"])
        return web.Response(status=404 if service is None else _STATUS[service.status])


def _versioned(handler: Handler) -> Handler:
    """Return `handler` with a check of `?version=`: 404 for another specification."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("version", SPEC_VERSION) != SPEC_VERSION:
            return web.json_response({"message": "API version not found"}, status=404)
        return await handler(request)

    return answer
