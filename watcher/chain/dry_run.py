"""The dry run: an answer is tried with eth_call before it is sent for the first time.

The call is the response function's, from `aggregator()`, with an empty signature. Contracts check the signatures last,
so a refusal of the signatures means that all else holds (reverts.py). Invariant: a convenience, never a gate. Only a
refusal of known meaning holds an answer back; a node's silence, slowness or malformed reply does not.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loguru import logger

from watcher.chain.contract import TaskManager
from watcher.chain.reverts import Meaning, Refusal, refusal
from watcher.chain.rpc.replies import Reverted, Unread
from watcher.clock import Clock
from watcher.errors import Quarantine, RetryElsewhere, StaleNode
from watcher.once import Once
from watcher.task import Header, NotYet, OpenTask, Resolve, Verdict, WouldRevert

# A POST waits no longer than this for a dry run; after a dry run that failed, the next POSTs do not wait at all.
_PATIENCE_S = 3.0
_REST_S = 60.0
# Nodes bound the size of a request. A call that is larger than this has no dry run.
_BATCH_BYTES = 256 * 1024
_KINDS_LOGGED = 100
_ADMISSIBLE = Refusal(Meaning.ADMISSIBLE, "nothing against it", "")


@dataclass(frozen=True, slots=True)
class _Moment:
    """The block whose state a dry run starts from. With `next_block` it runs in the block after it."""

    at: Header
    next_block: bool


class DryRun:
    """Dry runs of answers. The sender is read from the contract, and again when the contract refuses it."""

    def __init__(self, contract: TaskManager, clock: Clock) -> None:
        self._contract = contract
        self._clock = clock
        self._sender: bytes | None = None
        self._off = False
        self._rests_until_s = 0.0
        self._failing, self._logged = Once(), Once(_KINDS_LOGGED)

    @property
    def _view_name(self) -> str:
        view = self._contract.convention.aggregator
        return "view of its aggregator" if view is None else view.signature

    def follow(self, aggregator: bytes | None, *, anew: bool) -> None:
        """Take `aggregator` (20 bytes) as the sender. `anew`: the contract has changed, so start over."""
        self._sender = aggregator
        if anew:
            self._off = False
            self._logged.forget()

    def before(self, resolve: Resolve) -> Resolve:
        """Return `resolve` followed by a dry run of each answer that it would let go for the first time."""

        async def resolved(tasks: Sequence[OpenTask]) -> Sequence[Verdict]:
            verdicts = list(await resolve(tasks))
            first = [
                place for place, task in enumerate(tasks) if not task.attempts and isinstance(verdicts[place], NotYet)
            ]
            if first:
                at = _block_of(verdicts[first[0]])
                results = await self.check([tasks[place] for place in first], at, next_block=True)
                for place, refused in zip(first, results, strict=True):
                    if refused is not None and refused.meaning is not Meaning.ADMISSIBLE:
                        verdicts[place] = self._verdict(tasks[place], refused, at)
            return verdicts

        return resolved

    async def explain(self, tasks: Sequence[OpenTask], at: Header) -> list[str | None]:
        """Return the refusal of each answer at block `at` as a sentence; None where there is none or it is unknown."""
        results = await self.check(tasks, at)
        return [None if refused is None else _sentence(refused, at) for refused in results]

    async def check(self, tasks: Sequence[OpenTask], at: Header, *, next_block: bool = False) -> list[Refusal | None]:
        """Return the contract's reply to each answer on the state of block `at`, None where it is unknown.

        All calls travel in one batch.

        Args:
            tasks: the tasks, with their answers.
            at: the block whose state the calls run on.
            next_block: run the calls in the block after it, where a node can.
        """
        unknown: list[Refusal | None] = [None] * len(tasks)
        if self._off or self._clock.monotonic_s() < self._rests_until_s:
            return unknown
        try:
            async with asyncio.timeout(_PATIENCE_S):
                results = await self._try(tasks, _Moment(at, next_block))
        except StaleNode:
            return unknown  # a reorg, or a state that is not kept: no fault of the node's
        except (RetryElsewhere, TimeoutError) as error:
            self._rests_until_s = self._clock.monotonic_s() + _REST_S
            if self._failing.begins():
                logger.info(
                    "chain.dry_run_paused: dry runs fail; answers are sent without one for now",
                    reason=str(error) or "it takes too long",
                    rest_s=_REST_S,
                )
            return unknown
        self._failing.ends()
        return results

    async def _try(self, tasks: Sequence[OpenTask], moment: _Moment) -> list[Refusal | None]:
        calls = {place: call for place, task in enumerate(tasks) if (call := self._call(task)) is not None}
        by_place: dict[int, Refusal] = {}
        if calls and await self._find_sender(moment.at):
            by_place = await self._run(calls, moment)
            if any(refused.meaning is Meaning.CALLER for refused in by_place.values()):
                by_place = await self._retry_with_new_sender(calls, by_place, moment)
        return [by_place.get(place) for place in range(len(tasks))]

    async def _find_sender(self, at: Header) -> bool:
        """Read the sender from the contract unless it is known. Return True if there is one."""
        if self._sender is None:
            self._sender = await self._contract.aggregator(at)
        if self._sender is None:
            self._turn_off(f"the contract has no {self._view_name}, so the sender is unknown")
        return self._sender is not None

    async def _retry_with_new_sender(
        self, calls: dict[int, bytes], by_place: dict[int, Refusal], moment: _Moment
    ) -> dict[int, Refusal]:
        """Run again if the contract has a new aggregator; turn off if it refuses its own aggregator."""
        before, self._sender = self._sender, None
        if not await self._find_sender(moment.at):
            return {}
        if self._sender != before:
            by_place = await self._run(calls, moment)
        if all(refused.meaning is Meaning.CALLER for refused in by_place.values()):
            self._turn_off(f"the contract does not take answers from its own {self._view_name}")
        return {place: refused for place, refused in by_place.items() if refused.meaning is not Meaning.CALLER}

    async def _run(self, calls: dict[int, bytes], moment: _Moment) -> dict[int, Refusal]:
        assert self._sender is not None, "the caller has found the sender"
        errors = self._contract.convention.errors
        by_place: dict[int, Refusal] = {}
        meanings: dict[tuple[bytes | None, str], Refusal] = {}  # most answers are refused alike
        for batch in _batches(calls):
            replies = await self._contract.simulate(
                [calls[place] for place in batch], self._sender, moment.at, next_block=moment.next_block
            )
            for place, reply in zip(batch, replies, strict=True):
                if isinstance(reply, Reverted):
                    alike = reply.data, reply.message
                    if alike not in meanings:
                        meanings[alike] = refusal(reply, errors)
                    by_place[place] = meanings[alike]
                elif not isinstance(reply, Unread):
                    by_place[place] = _ADMISSIBLE
        return by_place

    def _call(self, task: OpenTask) -> bytes | None:
        if task.response is None:
            return None
        try:
            call = self._contract.convention.dry_run(task.task, task.response)
        except Quarantine:
            return None  # the builder of the request reports it
        return call if len(call) <= _BATCH_BYTES else None

    def _verdict(self, task: OpenTask, refused: Refusal, at: Header) -> Verdict:
        index, sentence = task.task.task_index, _sentence(refused, at)
        if refused.meaning is Meaning.NEXT and at.l1_block is None and task.task.seen_at.block_number >= at.number:
            return NotYet(at)  # the node ran the call in the task's own block; the next one is the first that counts
        match refused.meaning:
            case Meaning.NEXT | Meaning.WAIT | Meaning.PARK:
                park = refused.meaning is Meaning.PARK
                if self._logged.begins(refused.kind):
                    logger.warning(
                        "response.held_back: the contract would refuse the answer; it is not sent now",
                        task=index,
                        reason=sentence,
                        until="the contract or a person changes something" if park else "a later block",
                    )
                return WouldRevert(at, sentence if park else f"not sent yet: {sentence}", park)
            case Meaning.UNCLEAR if self._logged.begins(refused.kind):
                logger.info(
                    "response.dry_run_unclear: the dry run reverted for an unknown reason; the answer is sent anyway",
                    task=index,
                    reason=sentence,
                )
        return NotYet(at)

    def _turn_off(self, reason: str) -> None:
        self._off = True
        logger.info("chain.dry_run_off: answers are sent without a dry run", reason=reason)


def _block_of(verdict: Verdict) -> Header:
    assert isinstance(verdict, NotYet), "only answers that may be sent have a dry run"
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


def _sentence(refused: Refusal, at: Header) -> str:
    sentence = f"a dry run at block {at.number} says: {refused.reason}"
    return f"{sentence} (all but the signatures holds)" if refused.meaning is Meaning.ADMISSIBLE else sentence
