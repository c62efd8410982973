"""Calls put to one endpoint, as many in a request as it takes.

Providers limit batches to a hundred calls, or ten, or three, or take none at all, and each says so in its own words: an
error in place of the list or in each item, fewer answers than questions, HTTP 400, 413 or 429. So the words do not
matter: an endpoint that answers a trivial call alone, and not as many of them as were asked, refuses the number.

Invariant: every batch begins with eth_chainId, and so does whatever is asked without batches.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loguru import logger

from watcher.chain.rpc import replies
from watcher.chain.rpc.calls import Call
from watcher.chain.rpc.errors import Overloaded, Paused, RpcError, ShutOut, WrongChain, refused, speaks_of_a_range
from watcher.chain.rpc.transport import Transport
from watcher.clock import Clock
from watcher.errors import NarrowRange, RetryElsewhere

PROBE_TIMEOUT_S = 5.0
MOST_CALLS = 101
# A limit that was met may have been a passing trouble, or may have been lifted.
_FORGET_AFTER_S = 3600.0
_PAUSES_ENOUGH = 3
# Requests that fail while the calls that make them fail are found: one among a hundred takes eight.
_FAILURES_MAX = 24
_CHAIN_ID: Call = ("eth_chainId", [])
_OF_BATCHES = re.compile(r"\bbatch", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that was put to an endpoint. `methods` are our own words; `ok` when a usable answer came back."""

    endpoint: str
    methods: tuple[str, ...]
    seconds: float
    ok: bool


class Batch:
    """What is asked of one endpoint together. `most`: calls in a request as long as no lower limit is known."""

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
        """Per call the bare result or an RpcError. `narrow`: a smaller question may fare better.

        Raises RetryElsewhere, of whatever kind, when there is no usable answer.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        trouble: RetryElsewhere
        while True:
            self._forget()
            room = self._room
            try:
                found = await self._in_requests(calls, room, narrow, limit_s)
                slow = next((one for one in found if isinstance(one, RpcError) and one.slow_down), None)
                if not narrow or slow is None:
                    self._pauses = 0 if narrow else self._pauses
                    return found
                trouble = refused(slow, narrow)
            except TimeoutError:
                trouble = Overloaded(f"no complete answer within {limit_s:g} s")
            except RetryElsewhere as refusal:
                if await self._too_many(min(room, len(calls) + 1), refusal):
                    continue
                trouble = refusal
            if narrow and await self._is_the_size(trouble):
                raise NarrowRange(str(trouble))
            raise RetryElsewhere(*trouble.args) if isinstance(trouble, NarrowRange) else trouble

    async def ask_each(self, asked: Sequence[Call]) -> list[Any]:
        """Per call the bare result or an RpcError. A call that takes its whole request down is found by halving.

        Raises RetryElsewhere where the node answers nothing, or where too many calls are of that kind.
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

    async def _is_the_size(self, trouble: RetryElsewhere) -> bool:
        """Is it the question or the node? A node that still answers a trivial one is alive, whatever it says.

        A request to slow down is what it says, unless it speaks of a range, or comes again and again for this alone.
        """
        if isinstance(trouble, WrongChain):
            return False
        if isinstance(trouble, Paused) and not isinstance(trouble, ShutOut) and not speaks_of_a_range(str(trouble)):
            self._pauses += 1
            if self._pauses < _PAUSES_ENOUGH:
                return False
        if not await self._takes(1):
            return False
        self._pauses = 0
        return True

    async def room(self) -> int:
        """The most calls the endpoint takes in one request, eth_chainId among them; 1 where it takes no batches."""
        self._forget()
        await self._learn(self._room)
        return self._room

    def _forget(self) -> None:
        if self._room < self._most and self._clock.monotonic_s() - self._met_at_s > _FORGET_AFTER_S:
            self._room = self._most

    async def _too_many(self, calls: int, why: RetryElsewhere) -> bool:
        """Whether `why` comes from putting so many into one request. From then on fewer are."""
        if calls == 1 or isinstance(why, WrongChain) or (isinstance(why, Paused) and not _OF_BATCHES.search(str(why))):
            return False
        # Without any answer it is not the number.
        return await self._takes(1) and await self._learn(calls)

    async def _learn(self, calls: int) -> bool:
        """Find out how many of `calls` fit into one request; whether it is less than all."""
        fits = calls
        while fits > 1 and not await self._takes(fits):
            fits //= 2
        if fits == calls:
            return False
        self._room, self._met_at_s = min(self._room, fits), self._clock.monotonic_s()
        takes = f"{fits} calls in a batch" if fits > 1 else "no batches, so that one call is asked after the other"
        logger.info("{} takes {}", self._name, takes)
        return True

    async def _takes(self, calls: int) -> bool:
        """False when so many trivial calls are refused. One has to be answered; of more, silence proves nothing.

        Raises WrongChain when the endpoint serves another one.
        """
        timeout_s = min(self._timeout_s, PROBE_TIMEOUT_S)
        try:
            for found in await self._request([_CHAIN_ID] * calls, timeout_s):
                self._of_our_chain(found)
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
        found: list[Any] = []
        for asked in _requests(calls, room):
            answer = await self._request(asked, timeout_s)
            if asked[0] is _CHAIN_ID:
                self._of_our_chain(answer.pop(0), narrow)
            for one in answer if room > 1 else ():
                # Some nodes answer as many calls of a batch as they like, and refuse each one that is left.
                if isinstance(one, RpcError) and _OF_BATCHES.search(one.words) and not one.call_failed:
                    raise refused(one, narrow)
            found += answer
        return found

    async def _request(self, calls: Sequence[Call], timeout_s: float) -> list[Any]:
        """What came of one HTTP request; a single call travels without a batch. Raises TimeoutError."""
        began_s, ok = self._clock.monotonic_s(), False
        try:
            async with asyncio.timeout(timeout_s):
                envelopes = await self._transport.send(calls)
            ok = True
            return [replies.outcome(envelope) for envelope in envelopes]
        finally:
            methods = tuple(method for method, _ in calls)
            self._observe(Asked(self._name, methods, self._clock.monotonic_s() - began_s, ok))

    def _of_our_chain(self, found: Any, narrow: bool = False) -> None:
        if isinstance(found, RpcError):
            raise refused(found, narrow)
        serves = replies.quantity(found, 2**256 - 1)
        if serves != self._chain_id:
            raise WrongChain(f"serves chain {serves}, chain.chain_id is {self._chain_id}")


def _requests(calls: Sequence[Call], room: int) -> Iterator[list[Call]]:
    """`calls` in requests of at most `room`, in their order."""
    if room == 1:
        yield from ([one] for one in (_CHAIN_ID, *calls))
        return
    for start in range(0, max(len(calls), 1), room - 1):
        yield [_CHAIN_ID, *calls[start : start + room - 1]]
