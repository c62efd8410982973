"""Calls to one endpoint, as many in a request as it takes.

Providers limit batches to a hundred calls, ten, three or none, and each refuses in its own way: an error in place of
the list or in each item, fewer replies than calls, HTTP 400, 413 or 429. So the text does not matter: an endpoint that
replies to one trivial call, but not to as many as the batch had, refuses the number.

Invariant: every batch begins with eth_chainId, and so does every question without batches.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loguru import logger

from watcher.chain.rpc.calls import Call
from watcher.chain.rpc.envelope import outcome
from watcher.chain.rpc.errors import Overloaded, Paused, RpcError, ShutOut, WrongChain, refused, speaks_of_a_range
from watcher.chain.rpc.replies import quantity
from watcher.chain.rpc.transport import Transport
from watcher.clock import Clock
from watcher.errors import NarrowRange, RetryElsewhere

PROBE_TIMEOUT_S = 5.0
MOST_CALLS = 101
# A limit may have been a passing failure, or may be lifted.
_FORGET_AFTER_S = 3600.0
_PAUSES_ENOUGH = 3
# Failed requests while the failing calls are searched by halving: one call among a hundred takes eight.
_FAILURES_MAX = 24
_CHAIN_ID: Call = ("eth_chainId", [])
_OF_BATCHES = re.compile(r"\bbatch", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to an endpoint, for metrics. `ok`: a usable reply came back."""

    endpoint: str
    methods: tuple[str, ...]
    seconds: float
    ok: bool


class Batch:
    """The calls to one endpoint."""

    def __init__(
        self,
        transport: Transport,
        name: str,
        chain_id: int,
        clock: Clock,
        timeout_s: float,
        most: int,
        observe: Callable[[Asked], None],
    ) -> None:
        """Start without a known limit.

        Args:
            transport: the endpoint.
            name: the endpoint as it may be shown.
            chain_id: the configured chain.
            clock: measures requests and the age of a limit.
            timeout_s: the limit for one request.
            most: the calls in a request while no lower limit is known.
            observe: takes each request when it is over.
        """
        self._transport = transport
        self._name = name
        self._chain_id = chain_id
        self._clock = clock
        self._timeout_s = timeout_s
        self._most = self._room = most
        self._met_at_s = 0.0
        self._pauses = 0  # in a row, for questions that a smaller one may stand in for
        self._observe = observe

    async def ask(self, calls: Sequence[Call], *, narrow: bool = False, timeout_s: float | None = None) -> list[Any]:
        """Return the bare result or an RpcError for each call.

        Args:
            calls: the calls, without eth_chainId.
            narrow: the caller can ask a smaller question.
            timeout_s: the limit for one request, None for that of the endpoint.

        Raises:
            NarrowRange: `narrow`, and the endpoint replies to a trivial call only.
            RetryElsewhere: there is no usable reply.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        failure: RetryElsewhere
        while True:
            self._forget()
            room = self._room
            try:
                results = await self._in_requests(calls, room, narrow, limit_s)
                slow = next((reply for reply in results if isinstance(reply, RpcError) and reply.slow_down), None)
                if not narrow or slow is None:
                    self._pauses = 0 if narrow else self._pauses
                    return results
                failure = refused(slow, narrow)
            except TimeoutError:
                failure = Overloaded(f"no complete answer within {limit_s:g} s")
            except RetryElsewhere as refusal:
                if await self._too_many(min(room, len(calls) + 1), refusal):
                    continue
                failure = refusal
            if narrow and await self._is_the_size(failure):
                raise NarrowRange(str(failure))
            raise RetryElsewhere(*failure.args) if isinstance(failure, NarrowRange) else failure

    async def ask_each(self, asked: Sequence[Call]) -> list[Any]:
        """Return the bare result or an RpcError for each call. A call that fails its whole request is found by halving.

        Raises:
            RetryElsewhere: the node does not reply, or too many calls fail their request.
        """
        failures = 0

        async def ask(part: Sequence[Call], timeout_s: float | None) -> list[Any]:
            nonlocal failures
            try:
                return await self.ask(part, narrow=True, timeout_s=timeout_s)
            except NarrowRange as refusal:
                failures += 1
                if failures > _FAILURES_MAX:
                    raise RetryElsewhere(*refusal.args) from None
                if len(part) == 1:
                    return [RpcError(None, str(refusal))]
            middle = len(part) // 2
            limit_s = min(self._timeout_s, PROBE_TIMEOUT_S)
            return await ask(part[:middle], limit_s) + await ask(part[middle:], limit_s)

        return await ask(asked, None)

    async def _is_the_size(self, failure: RetryElsewhere) -> bool:
        """Return True if the failure is due to the question: the node still replies to a trivial call.

        A request to slow down is due to the node, unless its text is about a range, or it comes three times in a row.
        """
        if isinstance(failure, WrongChain):
            return False
        if isinstance(failure, Paused) and not isinstance(failure, ShutOut) and not speaks_of_a_range(str(failure)):
            self._pauses += 1
            if self._pauses < _PAUSES_ENOUGH:
                return False
        if not await self._takes(1):
            return False
        self._pauses = 0
        return True

    async def room(self) -> int:
        """Return the most calls in one request, eth_chainId among them; 1 without batches."""
        self._forget()
        await self._measure_room(self._room)
        return self._room

    def _forget(self) -> None:
        if self._room < self._most and self._clock.monotonic_s() - self._met_at_s > _FORGET_AFTER_S:
            self._room = self._most

    async def _too_many(self, calls: int, why: RetryElsewhere) -> bool:
        """Return True if `why` is due to so many calls in one request, and lower the limit."""
        if calls == 1 or isinstance(why, WrongChain) or (isinstance(why, Paused) and not _OF_BATCHES.search(str(why))):
            return False
        # An endpoint without any reply does not refuse the number.
        return await self._takes(1) and await self._measure_room(calls)

    async def _measure_room(self, calls: int) -> bool:
        """Find how many of `calls` fit into one request. Return True if fewer than all do."""
        fits = calls
        while fits > 1 and not await self._takes(fits):
            fits //= 2
        if fits == calls:
            return False
        self._room, self._met_at_s = min(self._room, fits), self._clock.monotonic_s()
        logger.info("rpc.batch_limit: the node takes no more calls in one request", node=self._name, calls=fits)
        return True

    async def _takes(self, calls: int) -> bool:
        """Return False if so many trivial calls are refused. One needs a reply; for more, silence proves nothing.

        Raises:
            WrongChain: the endpoint serves another chain.
        """
        timeout_s = min(self._timeout_s, PROBE_TIMEOUT_S)
        try:
            for result in await self._request([_CHAIN_ID] * calls, timeout_s):
                self._require_our_chain(result)
        except WrongChain:
            raise
        except TimeoutError:
            return calls > 1
        except Paused as pause:
            return calls > 1 and not _OF_BATCHES.search(str(pause))
        except RetryElsewhere:
            return False
        return True

    async def _in_requests(self, calls: Sequence[Call], room: int, narrow: bool, timeout_s: float) -> list[Any]:
        results: list[Any] = []
        for asked in _requests(calls, room):
            answer = await self._request(asked, timeout_s)
            if asked[0] is _CHAIN_ID:
                self._require_our_chain(answer.pop(0), narrow)
            for item in answer if room > 1 else ():
                # Some nodes reply to the first calls of a batch, and refuse each of the others.
                if isinstance(item, RpcError) and not item.call_failed and _OF_BATCHES.search(item.message):
                    raise refused(item, narrow)
            results += answer
        return results

    async def _request(self, calls: Sequence[Call], timeout_s: float) -> list[Any]:
        """Return the outcomes of one HTTP request. Raises TimeoutError."""
        began_s, ok = self._clock.monotonic_s(), False
        try:
            async with asyncio.timeout(timeout_s):
                envelopes = await self._transport.send(calls)
            ok = True
            return [outcome(envelope) for envelope in envelopes]
        finally:
            methods = tuple(method for method, _ in calls)
            self._observe(Asked(self._name, methods, self._clock.monotonic_s() - began_s, ok))

    def _require_our_chain(self, result: Any, narrow: bool = False) -> None:
        if isinstance(result, RpcError):
            raise refused(result, narrow)
        serves = quantity(result, 2**256 - 1)
        if serves != self._chain_id:
            raise WrongChain(f"serves chain {serves}, chain.chain_id is {self._chain_id}")


def _requests(calls: Sequence[Call], room: int) -> Iterator[list[Call]]:
    """Yield `calls` in requests of at most `room`, in their order."""
    if room == 1:
        yield from ([call] for call in (_CHAIN_ID, *calls))
        return
    for start in range(0, max(len(calls), 1), room - 1):
        yield [_CHAIN_ID, *calls[start : start + room - 1]]
