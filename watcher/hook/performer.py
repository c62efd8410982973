"""Hourglass performers as hooks, `grpc://HOST:PORT`: an `ExecuteTask` for each task.

The service is `PerformerService` of Layr-Labs/protocol-apis (protos/eigenlayer/hourglass/v1/performer/performer.proto):
`task_id` is the task's hash, `payload` its message, `result` the answer. A performer validates inside of `ExecuteTask`;
its errors are gRPC status codes. Both stay bytes where hook.message and hook.response name types, and are checked
against them. Invariant: whatever a performer sends costs only the task that it was asked for.
"""

import asyncio
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from watcher.errors import AttemptFailed, FixConfiguration, TryLater
from watcher.hook.grpc_import import grpc
from watcher.hook.plan import PoolPlan
from watcher.hook.protobuf import bytes_field, read_fields
from watcher.hook.protocol import checked_result
from watcher.hook.services import Service, ServicePool, warn_of_plain_text
from watcher.hook.target import setting
from watcher.hook.values import Values, ValueTypes
from watcher.task import Later, Response, Skip, Task
from watcher.text import clean

PREFIX = "grpc://"

_SERVICE = "eigenlayer.hourglass.v1.performer.PerformerService"
_EXECUTE = f"/{_SERVICE}/ExecuteTask"
# The health checks of Hourglass's templates, the first that a performer implements: its path, and the status that means
# "ready" (grpc.health.v1 SERVING; READY_FOR_TASK).
_HEALTH_CHECKS = (
    ("/grpc.health.v1.Health/Check", 1),
    (f"/{_SERVICE}/HealthCheck", 1),
)
_CONNECT_S = 5.0
_ROOM_BYTES = 65_536  # beside the result
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 5000))

_VERSION_KEY = "hook-version"  # of the metadata
_VERSION_LIMIT_CHARS = 100


class PerformerRunner:
    """A performer; the `Runner` for `grpc://`.

    At most `plan.workers` calls are under way. Cancelling a run cancels its call.
    """

    def __init__(self, target: str, plan: PoolPlan) -> None:
        self._target = target
        self._plan = plan
        self._values = Values(plan.types)
        self._place = _place(target)
        self._room = asyncio.Semaphore(plan.workers)
        self._channel: Any = None
        self._execute: Any = None
        self._services = ServicePool([Service(target, f"{PREFIX}{self._place}")], lambda: 0.0)
        self._service = self._services.services[0]
        self._may_be_gone = False  # by its last status
        self.exposed = ""

    @property
    def version(self) -> str:
        """Return the target, with the version that the performer names in the metadata of its replies, if it does."""
        return self._service.version()

    async def __aenter__(self) -> Self:
        """Connect, and check the performer's health.

        Raises:
            TryLater: it cannot be reached, or is not ready.
        """
        limit = ("grpc.max_receive_message_length", self._plan.answer_limit_bytes + _ROOM_BYTES)
        self._channel = grpc.aio.insecure_channel(self._place, options=[*_OPTIONS, limit])
        self._execute = self._channel.unary_unary(_EXECUTE)
        try:
            await self._check_health()
        except BaseException:
            await self._channel.close()
            raise
        warn_of_plain_text(self._service.name, urlsplit(self._target).hostname or "")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def run(self, task: Task) -> Response | Skip | Later:
        """Return the performer's result for one task.

        Raises:
            AttemptFailed: the performer was asked and gave no result, or the message does not decode.
            TryLater: it cannot be reached now; the task is not at fault.
        """
        self._values.check_message(task)
        async with self._room:
            began_s = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(self._plan.timeout_s):
                    result = await self._ask(task)
            except TimeoutError:
                raise AttemptFailed(
                    f"the performer took longer than timeout_s = {self._plan.timeout_s:g} s; the call was cancelled"
                ) from None
        duration_ms = round((asyncio.get_running_loop().time() - began_s) * 1000)
        return Response(result, self.version, duration_ms)

    async def reload(self, types: ValueTypes | None = None) -> tuple[str, str]:
        """Accept the version that the performer gives itself now; return the old one and the new one.

        New `types` hold for the calls from now on.

        Raises:
            TryLater: it cannot be reached, or is not ready.
        """
        before = f"{self._service.name} {self._service.accepted_version}".strip()
        await self._check_health()
        self._values = self._values if types is None else Values(types)
        self._services.accept_versions()
        return before, self.version

    async def changed_files(self) -> str:
        """Return the performer if its version is another than at the start or the last reload; else ""."""
        return self._services.changed()

    async def _ask(self, task: Task) -> bytes:
        if self._may_be_gone:
            await self._check_health()
            self._may_be_gone = False
        await self._connect()
        try:
            call = self._execute(bytes_field(1, task.task_hash) + bytes_field(2, task.message))
            body = await call
            self._service.answered(await _version(call))
        except grpc.aio.AioRpcError as error:
            # The performer may have died of this task, which costs an attempt. gRPC calls the connection ready for a
            # while longer: without a check, each task that is asked for meanwhile would pay as well.
            self._may_be_gone |= error.code() is grpc.StatusCode.UNAVAILABLE
            raise AttemptFailed(f"the performer failed: {_status(error)}") from None
        return self._result(body, task)

    def _result(self, body: bytes, task: Task) -> bytes:
        try:
            fields = read_fields(body)
        except ValueError:
            raise AttemptFailed("the performer's reply is no TaskResponse") from None
        task_id, result = fields.get(1, task.task_hash), fields.get(2, b"")
        if task_id not in (task.task_hash, b""):
            raise AttemptFailed("the performer's reply has the id of another task")
        # Protocol buffers write nothing for an empty result, so that one never set looks the same.
        if not isinstance(result, bytes) or not result:
            raise AttemptFailed("the performer's reply has no result")
        answer = checked_result(result, self._plan.answer_limit_bytes)
        assert isinstance(answer, bytes)
        self._values.check_answer(answer)
        return answer

    async def _check_health(self) -> None:
        await self._connect()
        for path, ready in _HEALTH_CHECKS:
            try:
                call = self._channel.unary_unary(path)(b"", timeout=_CONNECT_S)
                body = await call
                self._service.answered(await _version(call))
                status = read_fields(body).get(1, 0)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    continue
                raise self._not_ready(f"its health check failed: {_status(error)}") from None
            except ValueError:
                raise self._not_ready("its health check replies with nonsense") from None
            if status != ready:
                raise self._not_ready("it does not serve yet, by its health check")
            return

    async def _connect(self) -> None:
        """Wait for the connection: a call that fails later may have reached the performer.

        Raises:
            TryLater: there is none now.
        """
        ready, failed = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE
        try:
            async with asyncio.timeout(_CONNECT_S):
                while (state := self._channel.get_state(try_to_connect=True)) is not ready:
                    if state is failed:
                        raise self._not_ready("no connection to a gRPC server without TLS")
                    await self._channel.wait_for_state_change(state)
        except TimeoutError:
            raise self._not_ready(f"no connection within {_CONNECT_S:g} s") from None

    def _not_ready(self, reason: str) -> TryLater:
        return TryLater(f"{setting(self._target)}: the performer takes no task now: {reason}")


def _place(target: str) -> str:
    """Return HOST:PORT of a target.

    Raises:
        FixConfiguration: it names something else.
    """
    try:
        url = urlsplit(target)
        is_place = bool(url.hostname and url.port) and not (url.path.strip("/") or url.query or "@" in url.netloc)
    except ValueError:
        is_place = False
    if not is_place:
        raise FixConfiguration(f"{setting(target)}: write it as grpc://HOST:PORT")
    return url.netloc


async def _version(call: Any) -> str:
    """Return the version that a performer names in the metadata of a reply, "" without one."""
    for metadata in (await call.initial_metadata(), await call.trailing_metadata()):
        for key, value in metadata or ():
            if key == _VERSION_KEY and isinstance(value, str):
                return clean(value, _VERSION_LIMIT_CHARS)
    return ""


def _status(error: Any) -> str:
    status = f"{error.code().name} {clean(error.details() or '', 300)}".strip()
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return f"{status}; hook.target must be a server of {_SERVICE} with ExecuteTask"
    return status
