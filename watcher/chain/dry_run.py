"""The dry run: what the contract would say to an answer, asked by eth_call before the answer is sent first.

The call is the response function's, from `aggregator()`, with nobody's signature. Contracts check the signatures last,
so a refusal of those means that all else holds (reverts.py). Invariant: a convenience, never a gate. Only a refusal
that is known for what it is holds an answer back; no node's silence, slowness or nonsense does.
"""

import asyncio
from collections.abc import Iterator, Sequence

from loguru import logger

from watcher.chain.contract import TaskManager
from watcher.chain.reverts import Meaning, Refusal, refusal
from watcher.chain.rpc.replies import Reverted, Unread
from watcher.clock import Clock
from watcher.errors import Quarantine, RetryElsewhere, StaleNode
from watcher.once import Once
from watcher.task import Header, NotYet, OpenTask, Resolve, Verdict, WouldRevert

# A POST waits no longer than this for a rehearsal; after one that failed, the next POSTs do not wait at all.
_PATIENCE_S = 3.0
_REST_S = 60.0
# Nodes bound the size of a request; what is larger than this by itself goes unrehearsed.
_BATCH_BYTES = 256 * 1024
_TOLD_LIMIT = 100
_NOTHING = Refusal(Meaning.PASSES, "nothing against it", "")


class DryRun:
    """Rehearses answers. Who may answer is read from the contract, and again when it does not fit any more."""

    def __init__(self, contract: TaskManager, clock: Clock) -> None:
        self._contract = contract
        self._clock = clock
        self._sender: bytes | None = None
        self._off = False
        self._rests_until_s = 0.0
        self._failing, self._told = Once(), Once(_TOLD_LIMIT)

    @property
    def _name(self) -> str:
        view = self._contract.convention.aggregator
        return "view of who may answer" if view is None else view.signature

    def follow(self, aggregator: bytes | None, *, anew: bool) -> None:
        """The contract was read again: answers come from this address. `anew`: it is not what it was."""
        self._sender = aggregator
        if anew:
            self._off = False
            self._told.forget()

    def before(self, resolve: Resolve) -> Resolve:
        """`resolve`, and then a dry run of what it would let go for the first time."""

        async def resolved(held: Sequence[OpenTask]) -> Sequence[Verdict]:
            verdicts = list(await resolve(held))
            first = [
                place for place, one in enumerate(held) if not one.attempts and isinstance(verdicts[place], NotYet)
            ]
            if first:
                at = _block_of(verdicts[first[0]])
                said = await self.refusals([held[place] for place in first], at)
                for place, refused in zip(first, said, strict=True):
                    if refused is not None:
                        verdicts[place] = self._judged(held[place], refused, at)
            return verdicts

        return resolved

    async def explain(self, held: Sequence[OpenTask], at: Header) -> list[str | None]:
        """What a dry run at `at` says to each answer, in words; None where there is none, or no node can tell."""
        said = await self.refusals(held, at)
        return [None if one is None else _words(one, at) for one in said]

    async def refusals(self, held: Sequence[OpenTask], at: Header) -> list[Refusal | None]:
        """What the contract says to each answer at `at`, None where nobody can tell. All in one batch."""
        silence: list[Refusal | None] = [None] * len(held)
        if self._off or self._clock.monotonic_s() < self._rests_until_s:
            return silence
        try:
            async with asyncio.timeout(_PATIENCE_S):
                found = await self._play(held, at)
        except StaleNode:
            return silence  # a reorg, or a state that is not kept: no fault of the node's
        except (RetryElsewhere, TimeoutError) as trouble:
            self._rests_until_s = self._clock.monotonic_s() + _REST_S
            if self._failing.begins():
                logger.info("answers are sent without a dry run for now: {}", trouble or "it takes too long")
            return silence
        self._failing.ends()
        return found

    async def _play(self, held: Sequence[OpenTask], at: Header) -> list[Refusal | None]:
        calls = {place: call for place, one in enumerate(held) if (call := self._call(one)) is not None}
        said: dict[int, Refusal] = {}
        if calls and await self._casts(at):
            said = await self._say(calls, at)
            if any(one.meaning is Meaning.CALLER for one in said.values()):
                said = await self._recast(calls, said, at)
        return [said.get(place) for place in range(len(held))]

    async def _casts(self, at: Header) -> bool:
        """Is it known whose part we play?"""
        if self._sender is None:
            self._sender = await self._contract.aggregator(at)
        if self._sender is None:
            self._turn_off(f"the contract has no {self._name}, so that nobody's part can be played")
        return self._sender is not None

    async def _recast(self, calls: dict[int, bytes], said: dict[int, Refusal], at: Header) -> dict[int, Refusal]:
        """The contract takes answers from somebody else by now; or not from its aggregator() at all."""
        before, self._sender = self._sender, None
        if not await self._casts(at):
            return {}
        if self._sender != before:
            said = await self._say(calls, at)
        if all(one.meaning is Meaning.CALLER for one in said.values()):
            self._turn_off(f"the contract does not take answers from its own {self._name}")
        return {place: one for place, one in said.items() if one.meaning is not Meaning.CALLER}

    async def _say(self, calls: dict[int, bytes], at: Header) -> dict[int, Refusal]:
        assert self._sender is not None, "the part is cast before it is played"
        said: dict[int, Refusal] = {}
        for batch in _batches(calls):
            found = await self._contract.simulate([calls[place] for place in batch], self._sender, at)
            for place, one in zip(batch, found, strict=True):
                if isinstance(one, Unread):
                    continue
                said[place] = refusal(one, self._contract.convention.errors) if isinstance(one, Reverted) else _NOTHING
        return said

    def _call(self, held: OpenTask) -> bytes | None:
        if held.response is None:
            return None
        try:
            call = self._contract.convention.dry_run(held.task, held.response)
        except Quarantine:
            return None  # whoever builds the request will say so
        return call if len(call) <= _BATCH_BYTES else None

    def _judged(self, held: OpenTask, refused: Refusal, at: Header) -> Verdict:
        index, words = held.task.task_index, _words(refused, at)
        match refused.meaning:
            case Meaning.WAIT | Meaning.PARK:
                park = refused.meaning is Meaning.PARK
                if self._told.begins(refused.kind):
                    logger.bind(task=index).warning(
                        "not sent {}: {}", "yet" if not park else "until that changes", words
                    )
                return WouldRevert(at, words if park else f"not sent yet: {words}", park)
            case Meaning.UNCLEAR if self._told.begins(refused.kind):
                logger.bind(task=index).info("sent all the same: {}; nobody knows what that means", words)
        return NotYet(at)

    def _turn_off(self, why: str) -> None:
        self._off = True
        logger.info("answers are sent without a dry run: {}", why)


def _block_of(verdict: Verdict) -> Header:
    assert isinstance(verdict, NotYet), "only what may be sent is rehearsed"
    return verdict.at


def _batches(calls: dict[int, bytes]) -> Iterator[list[int]]:
    batch: list[int] = []
    room = _BATCH_BYTES
    for place, call in calls.items():
        if len(call) > room:
            yield batch
            batch, room = [], _BATCH_BYTES
        batch.append(place)
        room -= len(call)
    yield batch


def _words(refused: Refusal, at: Header) -> str:
    said = f"a dry run at block {at.number} says: {refused.words}"
    return f"{said} (all but the signatures holds)" if refused.meaning is Meaning.PASSES else said
