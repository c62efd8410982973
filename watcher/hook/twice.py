"""A hook that runs twice on each task, in two processes, so that an answer that depends on more than the task is found.

Invariant: an answer is one that both runs gave, byte for byte.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Protocol, Self

from watcher.errors import AttemptFailed, TryLater
from watcher.hook.values import Values, ValueTypes
from watcher.task import Later, Response, Skip, Task
from watcher.text import clean, to_hex

_BYTES_SHOWN = 64
_REASON_CHARS = 200

Verdict = Response | Skip | Later


class SingleRunner(Protocol):
    """What two runs need of each `watcher.hook.runner.Runner`."""

    @property
    def version(self) -> str: ...

    @property
    def exposed(self) -> str: ...

    async def run(self, task: Task) -> Verdict: ...

    async def reload(self, types: ValueTypes | None = None) -> tuple[str, str]: ...

    async def changed_files(self) -> str: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TwiceRunner:
    """Two runners of one hook; the `Runner` for hook.run_twice.

    The second has run one task more, so that a hook that counts its calls gives two answers at once.
    """

    def __init__(self, make: Callable[[], SingleRunner], types: ValueTypes) -> None:
        """`make` returns a runner that is not entered."""
        self._first, self._second = make(), make()
        self._values = Values(types)
        self._stack = AsyncExitStack()
        self._is_ahead = False
        self._mismatch = ""

    @property
    def version(self) -> str:
        """Return the version of the code that answers."""
        return self._first.version

    @property
    def exposed(self) -> str:
        """Return why the hook can reach secrets; "" if it cannot."""
        return self._first.exposed

    async def __aenter__(self) -> Self:
        """Load the hook twice.

        Raises:
            FixConfiguration: it cannot be loaded.
            TryLater: it cannot be loaded now, or its code changed meanwhile.
        """
        async with AsyncExitStack() as stack:
            for runner in (self._first, self._second):
                await stack.enter_async_context(runner)
            self._compare_versions()
            if self._mismatch:
                raise TryLater(self._mismatch)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def run(self, task: Task) -> Verdict:
        """Return the answer on which two runs agree.

        Raises:
            AttemptFailed: a run failed, or they differ; the message has both answers.
            TryLater: the hook cannot be run now; the task is not at fault.
        """
        if self._mismatch:
            raise TryLater(self._mismatch)
        if not self._is_ahead:
            self._is_ahead = True
            with suppress(AttemptFailed, TryLater):
                await self._second.run(task)
        first, second = await asyncio.gather(self._first.run(task), self._second.run(task), return_exceptions=True)
        if isinstance(first, Exception) or isinstance(second, Exception):
            self._is_ahead = False  # New workers may begin at the same place.
        return agreed(_no_error(first), _no_error(second), self._values)

    async def reload(self, types: ValueTypes | None = None) -> tuple[str, str]:
        """Load the code anew, twice; return the old version and the new one. Tasks wait if only one succeeds.

        Raises:
            FixConfiguration: the new code cannot be loaded.
            TryLater: it cannot be loaded now.
        """
        versions = await self._first.reload(types)
        try:
            await self._second.reload(types)
        finally:
            self._values = self._values if types is None else Values(types)
            self._compare_versions()
        self._is_ahead = False
        if self._mismatch:
            raise TryLater(self._mismatch)
        return versions

    async def changed_files(self) -> str:
        """Return the names of source files that differ from the loaded code; "" if none do."""
        return await self._first.changed_files()

    def _compare_versions(self) -> None:
        first, second = self._first.version, self._second.version
        differ = first != second
        self._mismatch = (
            f"the code of the hook changed while it was loaded twice ({first}, {second}); reload it" if differ else ""
        )


def _no_error(result: Verdict | BaseException) -> Verdict | AttemptFailed:
    """Return the result of a run, and raise what is no result: TryLater, or a bug."""
    if isinstance(result, BaseException) and not isinstance(result, AttemptFailed):
        raise result
    return result


def agreed(first: Verdict | AttemptFailed, second: Verdict | AttemptFailed, values: Values) -> Verdict:
    """Return what two runs on one task agree on; Later of one of them counts for both.

    Args:
        first: the result of a run.
        second: the result of the other one.
        values: decodes the answers for the message.

    Raises:
        AttemptFailed: a run failed, or the two differ.
    """
    for result in (first, second):
        if isinstance(result, AttemptFailed):
            raise result
    for result in (first, second):
        if isinstance(result, Later):
            return result
    if isinstance(first, Response) and isinstance(second, Response) and first.resp_message == second.resp_message:
        return Response(first.resp_message, first.hook_version, max(first.duration_ms, second.duration_ms))
    if isinstance(first, Skip) and isinstance(second, Skip):
        return first
    raise AttemptFailed(f"two runs on this task differ: {_text(first, values)}, and {_text(second, values)}")


def _text(result: Verdict | AttemptFailed, values: Values) -> str:
    if not isinstance(result, Response):
        return f"skip ({clean(result.reason, _REASON_CHARS)})" if isinstance(result, Skip) else "no answer"
    data = result.resp_message
    digits = to_hex(data[:_BYTES_SHOWN]) + (f"... ({len(data):,} bytes)" if len(data) > _BYTES_SHOWN else "")
    decoded = values.answer_text(data)
    return f"{digits} ({decoded})" if decoded else digits
