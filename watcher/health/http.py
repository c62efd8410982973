"""The HTTP server on `[http] listen`: /livez, /readyz, /metrics, the Node API, and the pages of the dashboard.

Invariants: a probe costs no query and waits for nothing, its reply comes from the last evaluation, and it takes GET
alone; no reply holds a secret; a port that is taken never keeps the daemon from answering tasks.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from loguru import logger
from prometheus_client.exposition import choose_encoder

from watcher.clock import Clock
from watcher.health.access import Access
from watcher.health.exposition import AllMetrics
from watcher.health.prefix import inner_path
from watcher.health.sites import Sites
from watcher.once import Once
from watcher.validation import is_loopback

_BIND_RETRY_S = 15.0
_CONNECTIONS_LIMIT = 64
_BODY_LIMIT_BYTES = 4096
_PROBES = ("/livez", "/readyz", "/metrics")
_NODE_API = "/eigen/"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Server": "avs-task-watcher",
}
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web:
    """The server. `port` is the one it listens on, 0 while it does not."""

    def __init__(
        self,
        address: tuple[str, int],
        sites: Sites,
        clock: Clock,
        access: Access | None = None,
    ) -> None:
        """Take the server's parts.

        Args:
            address: host and port.
            sites: the addresses of each AVS.
            clock: paces the attempts to listen.
            access: decides who may read the probes; None: everybody.
        """
        self._host, self._port = address
        self._access = access
        self._sites = sites
        self._registry = AllMetrics(sites.registries).registry
        self._clock = clock
        self.port = 0

    async def run(self) -> None:
        """Serve until cancelled. While the address is taken, log that once and retry."""
        runner = web.AppRunner(
            self._application(), access_log=None, shutdown_timeout=1, keepalive_timeout=15, logger=_RequestLog("http")
        )
        await runner.setup()
        server: asyncio.Server | None = None
        try:
            server = await self._bind(runner)
            self.port = server.sockets[0].getsockname()[1]
            host = f"[{self._host}]" if ":" in self._host else self._host
            logger.info("health.listening: health and metrics are served", url=f"http://{host}:{self.port}")
            await asyncio.Event().wait()
        finally:
            self.port = 0
            if server is not None:
                server.close()  # not waited for: newer Pythons would wait for every idle connection
            await runner.cleanup()

    async def _bind(self, runner: web.AppRunner) -> asyncio.Server:
        loop, taken = asyncio.get_running_loop(), Once()
        serve = runner.server
        assert serve is not None, "set up"

        def protocol() -> asyncio.BaseProtocol:
            return serve() if len(serve.connections) < _CONNECTIONS_LIMIT else _Refuse()

        while True:
            try:
                return await loop.create_server(protocol, self._host, self._port, backlog=_CONNECTIONS_LIMIT)
            except OSError as error:
                if taken.begins():
                    logger.error(
                        "health.cannot_listen: health and metrics are off, http.listen cannot be opened; "
                        "tasks are answered, and the watcher retries",
                        address=f"{self._host}:{self._port}",
                        reason=error.strerror or type(error).__name__,
                        retry_s=_BIND_RETRY_S,
                    )
            await self._clock.sleep(_BIND_RETRY_S)

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=_BODY_LIMIT_BYTES)
        application.router.add_get("/metrics", self._metrics, allow_head=False)
        application.router.register_resource(self._sites)
        application.on_shutdown.append(self._end_streams)
        return application

    async def _end_streams(self, _application: web.Application) -> None:
        self._sites.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._names_us(request.headers.get("Host")):
            # A web page that points its own host name at this machine (DNS rebinding) must not read anything.
            response: web.StreamResponse = web.Response(status=403, text="this name is not served here\n")
        elif not self._may_probe(request):
            response = web.Response(status=401, text="the token is needed\n", headers={"WWW-Authenticate": "Bearer"})
        else:
            try:
                response = await handler(request)
            except web.HTTPException as refusal:
                headers = {"Allow": refusal.headers["Allow"]} if refusal.status == 405 else {}
                response = web.Response(status=refusal.status, text=f"{refusal.reason}\n", headers=headers)
            except Exception:  # noqa: BLE001 - the Node API asks for this reply; the log has the rest
                logger.exception("health.request_failed: a request failed; this is a bug, please report it")
                response = web.json_response({"message": "Internal server error"}, status=500)
        if not response.prepared:  # a stream has sent its own
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
        return response

    def _may_probe(self, request: web.Request) -> bool:
        """Return True if the request is for no probe, or for one that it may read."""
        path = inner_path(request.path)
        is_probe = path in _PROBES or path.startswith(_NODE_API)
        if self._access is None or self._access.probes_are_open or not is_probe:
            return True
        return self._access.bears_token(request.headers.get("Authorization"), request.remote or "")

    def _names_us(self, host: str | None) -> bool:
        """Return True if the Host header names us.

        On a loopback address only loopback names do, and that of the reverse proxy; elsewhere any name.
        """
        if host is None or not is_loopback(self._host):
            return True
        if self._access is not None and self._access.public_host and host.lower() == self._access.public_host:
            return True
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        return name.strip("[]").lower() in _LOOPBACK_NAMES | {self._host}

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        accept = request.headers.get("Accept", "")
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # it compares whatever stands there for a version
            encode, content_type = choose_encoder("")
        # The page of many AVSs takes a while to make.
        body = await asyncio.to_thread(encode, self._registry)
        return web.Response(body=body, headers={"Content-Type": content_type})


class _RequestLog(logging.LoggerAdapter[logging.Logger]):
    """The log of aiohttp's server. Anybody who reaches the port can send nonsense: that is no error of ours."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name))

    def exception(self, msg: object, *args: object, exc_info: object = True, **_kwargs: object) -> None:
        """Log a request that is no HTTP in one line at debug level, anything else with its traceback."""
        if isinstance(exc_info, HttpProcessingError):
            self.debug("a request is not HTTP: %s", exc_info.message)
        else:
            self.logger.error(msg, *args, exc_info=exc_info)  # type: ignore[arg-type]


class _Refuse(asyncio.Protocol):
    """The protocol of connections beyond the limit: it closes them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
