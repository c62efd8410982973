"""Several endpoints as one: failover in the configured order.

An endpoint that fails rests, longer each time, and must reply to a cheap question first. While none serves, none rests
for long, for that would prolong the outage. An endpoint that lags, or refuses a long range, has not failed. Each change
of an endpoint's state is one log line.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from random import Random
from typing import TypeVar

from loguru import logger

from watcher.backoff import doubled_s, spread_s
from watcher.chain.rpc.agreement import Agreement
from watcher.chain.rpc.calls import Caller, Emitters, LogQuery
from watcher.chain.rpc.errors import COOL_DOWN_MAX_S, Paused, WrongChain
from watcher.chain.rpc.finality import Final, Finality
from watcher.chain.rpc.member import EndpointSeen, Member
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.node_blocks import NodeBlocks
from watcher.chain.rpc.pace import longest_pause_s
from watcher.chain.rpc.replies import Log, LogPage, Reverted, Unread
from watcher.chain.rpc.side_questions import SideQuestions
from watcher.chain.rpc.trust import Disagreement
from watcher.chain.rpc.unreached import Unreached
from watcher.chain.rpc.votes import Votes
from watcher.clock import Clock
from watcher.errors import FixConfiguration, NarrowRange, RetryElsewhere, StaleNode
from watcher.task import Header

T = TypeVar("T")

_BACK_OFF_FIRST_S = 0.5
_BACK_OFF_MAX_S = 60.0
_BACK_OFF_ALONE_S = 10.0
# Replies of another chain in a row that end the daemon: a provider may route single requests to the wrong chain.
_SURELY_WRONG = 5


class NodePool:
    """The questions of `Node`, put to the first endpoint that can reply.

    Each raises NarrowRange at once (the caller changes the range); StaleNode if no endpoint has the block;
    FixConfiguration if every endpoint has served another chain several times in a row; RetryElsewhere, with the reason
    of each, if all endpoints failed or rest.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        clock: Clock,
        random: Random,
        quorum: int = 1,
        left_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Start with every endpoint in service; `quorum` of them must give the same reading of the contract.

        `left_s` returns the seconds to the nearest deadline of an open task, None without one.
        """
        if not nodes:
            raise FixConfiguration("chain.rpc_urls: at least one http or https URL is needed")
        self._members = [Member(node) for node in nodes]
        self.clock = clock
        self._random = random
        self._quorum = quorum
        self._left_s = left_s
        self.side = SideQuestions(self._in_service, clock, quorum)
        blocks = NodeBlocks(self.answers)
        self._agreement = Agreement(blocks, [node.name for node in nodes], clock, quorum)
        self._finality = Finality(self.answers, blocks, len(nodes), clock, quorum)
        self.unreached = Unreached(self.answers, clock, quorum)
        self.head_block: int | None = None  # of the last reading
        self.head_time_s = 0  # its timestamp, 0 where it is not known

    @property
    def seen(self) -> tuple[EndpointSeen, ...]:
        """The state of each endpoint, in the configured order."""
        return tuple(EndpointSeen(member.node.name, member.served_s, member.reason) for member in self._members)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All endpoints in the configured order."""
        return tuple(member.node for member in self._members)

    async def close(self) -> None:
        for member in self._members:
            await member.node.close()

    async def ask(self, question: Callable[[Node], Awaitable[T]], *, last_first: bool = False) -> T:
        """Return the first usable reply to `question`, in the configured order; `last_first`: in the reverse order.

        Raises:
            NarrowRange: an endpoint refuses the range.
            StaleNode: no endpoint has the block.
            FixConfiguration: every endpoint has served another chain several times in a row.
            RetryElsewhere: all endpoints failed or rest.
        """
        stale: StaleNode | None = None
        for member in reversed(self._members) if last_first else self._members:
            if self.clock.monotonic_s() < member.rests_until_s:
                continue
            try:
                return await self._ask(member, question)
            except NarrowRange:
                self._served(member)
                raise
            except StaleNode as error:
                self._served(member)
                stale = error
            except RetryElsewhere as error:
                self._failed(member, error)
        if stale is not None:
            raise stale
        reasons = [member.reason or f"{member.node.name}: failed a moment ago" for member in self._members]
        if all(member.wrong_chain >= _SURELY_WRONG for member in self._members):
            raise FixConfiguration(*(f"chain.rpc_urls: {reason}" for reason in reasons))
        raise RetryElsewhere("no endpoint of chain.rpc_urls can answer now: " + "; ".join(reasons))

    async def _ask(self, member: Member, question: Callable[[Node], Awaitable[T]]) -> T:
        if member.failures:
            # A hung endpoint must not cost each question a whole deadline: a cheap call comes first.
            await member.node.chain_id()
        answer = await question(member.node)
        self._served(member)
        return answer

    def _served(self, member: Member) -> None:
        if member.reason is not None:
            logger.info("rpc.node_up: the node answers again", node=member.node.name)
        member.failures, member.rests_until_s, member.reason, member.wrong_chain = 0, 0.0, None, 0
        member.served_s = self.clock.monotonic_s()

    def _failed(self, member: Member, error: RetryElsewhere) -> None:
        now = self.clock.monotonic_s()
        wrong_chain = isinstance(error, WrongChain)
        if member.reason is None or wrong_chain != bool(member.wrong_chain):
            logger.warning("rpc.node_down: the node is out of use", node=member.node.name, reason=str(error))
        member.reason = str(error)
        if now < member.rests_until_s:
            return  # a second question that was under way: one failure, not two
        member.failures += 1
        member.wrong_chain = member.wrong_chain + 1 if wrong_chain else 0
        rest_s = spread_s(doubled_s(member.failures, _BACK_OFF_FIRST_S, _BACK_OFF_MAX_S), self._random.random)
        if isinstance(error, Paused) and error.cool_down_s is not None:
            member.paused_until_s = now + min(error.cool_down_s, COOL_DOWN_MAX_S)
        member.rests_until_s = max(now + rest_s, member.paused_until_s)
        if all(each.reason is not None for each in self._members):
            self._shorten_rests(now)

    def _shorten_rests(self, now_s: float) -> None:
        """Bound the rest of every endpoint while none serves, by the nearest deadline."""
        pause_s = longest_pause_s(self._left_s())
        for member in self._members:
            member.paused_until_s = min(member.paused_until_s, now_s + pause_s)
            rests_until_s = min(member.rests_until_s, now_s + min(_BACK_OFF_ALONE_S, pause_s))
            member.rests_until_s = max(rests_until_s, member.paused_until_s)

    async def chain_id(self) -> int:
        return await self.ask(lambda node: node.chain_id())

    async def head(self) -> Header:
        """Return the newest block that `quorum` endpoints show. Raises as the class and `Agreement.head` say."""
        heads = await self.answers(lambda node: node.head())
        if not heads:
            await self.ask(lambda node: node.head())  # raises the failure that all have in common
            heads = await self.answers(lambda node: node.head())
        head = await self._agreement.head(heads)
        self.unreached.observe(head)
        self.head_block, self.head_time_s = head.number, head.timestamp_s
        return head

    async def final(self, finality: str | int, head: Header, confirmations: int, above: int = -1) -> Final | None:
        """Return the final block below `head`, as `Finality.block` does."""
        return await self._finality.block(finality, head, self._agreement.heads, confirmations, above)

    def follow(self, anchor: Header | None) -> None:
        """Follow the endpoints that hold `anchor`, the last block of the ledger, where endpoints disagree."""
        self._agreement.anchor = anchor

    def shows_less_for_s(self, mark: int) -> float:
        """Return for how many seconds every endpoint in service has shown less than block `mark`."""
        return self._agreement.shows_less_for_s(mark)

    @property
    def final_at_head_s(self) -> float:
        """The seconds of new blocks during which the endpoints have called the head itself final."""
        return self._finality.at_head_s

    @property
    def disagreement(self) -> Disagreement | None:
        """The contradiction between endpoints, None while there is none."""
        return self._agreement.trust.disagreement

    async def answers(
        self, question: Callable[[Node], Awaitable[T]], places: Collection[int] | None = None
    ) -> dict[int, T]:
        """Return the replies of the endpoints in service (at `places`) by place, without those that fail."""
        now_s = self.clock.monotonic_s()
        awake = [
            (place, member)
            for place, member in enumerate(self._members)
            if now_s >= member.rests_until_s and (places is None or place in places)
        ]
        opinions = await asyncio.gather(*(self._opinion(member, question) for _, member in awake))
        return {place: reply for (place, _), opinion in zip(awake, opinions, strict=True) for reply in opinion}

    async def opinions(self, question: Callable[[Node], Awaitable[T]]) -> list[T]:
        """Return the replies of all endpoints in service, asked at the same time, without those that fail."""
        return list((await self.answers(question)).values())

    async def _opinion(self, member: Member, question: Callable[[Node], Awaitable[T]]) -> tuple[T] | tuple[()]:
        try:
            return (await self._ask(member, question),)
        except RetryElsewhere as error:
            self._failed(member, error)
            return ()

    async def header(self, which: int | str, head: Header | None = None) -> Header | None:
        return await self.ask(self._below(head, lambda node: node.header(which)))

    async def page(self, query: LogQuery, head: Header | None = None) -> LogPage:
        """Return the logs of a range; with a `head`, only from endpoints that hold it."""
        return await self.ask(self._below(head, lambda node: node.page(query)))

    def _below(self, head: Header | None, question: Callable[[Node], Awaitable[T]]) -> Callable[[Node], Awaitable[T]]:
        """Return the question restricted to endpoints that hold `head`: one on a dead fork shows another chain."""
        if head is None or len(self._members) == 1:
            return question

        async def on_that_chain(node: Node) -> T:
            there = await node.header(head.number)
            if there is None or there.hash != head.hash:
                raise StaleNode(f"{node.name}: does not hold the head that another endpoint showed, {head.number}")
            return await question(node)

        return on_that_chain

    async def second_page(self, query: LogQuery) -> LogPage:
        """Return the same as `page` from the last endpoint in service, which `page` asks last."""
        return await self.ask(lambda node: node.page(query), last_first=True)

    async def find(
        self, address: Emitters, topic0: bytes | None, index: bytes | None, first: int, last: int
    ) -> tuple[Log, ...]:
        return await self.ask(lambda node: node.find(address, topic0, index, first, last))

    async def views(
        self, calls: Sequence[bytes], to: bytes, at: Header, caller: Caller | None = None
    ) -> list[bytes | Reverted | Unread]:
        """Return readings of the contract at one block, each as `quorum` endpoints give it alike.

        An item on which endpoints differ, or which too few can read, is Unread; the other items stand, and the
        endpoints stay in use. With a `caller` the calls are dry runs of its transactions. Raises as the class says, and
        RetryElsewhere if fewer than `quorum` endpoints reply.
        """
        votes, answered = Votes(len(calls), self._quorum), set[Node]()

        async def read(node: Node) -> None:
            places = votes.open
            asked = [calls[place] for place in places]
            readings = await (node.views(asked, to, at) if caller is None else node.views(asked, to, at, caller))
            votes.add(places, readings)
            answered.add(node)

        if self._quorum == 1:
            await self._served_at(read, at)
        for member in self._members:
            if votes.open and member.node not in answered and self.clock.monotonic_s() >= member.rests_until_s:
                await self._ask_another(member, read, is_whole=len(votes.open) == len(calls))
        return votes.result(at.number)

    async def _served_at(self, question: Callable[[Node], Awaitable[T]], at: Header) -> T:
        try:
            return await self.ask(question)
        except StaleNode:
            self._agreement.trust.unserved(at)
            raise

    async def _ask_another(
        self, member: Member, question: Callable[[Node], Awaitable[None]], *, is_whole: bool
    ) -> None:
        """Ask one more endpoint. `is_whole` False: for items that others cannot read; a failure is then ignored."""
        try:
            await self._ask(member, question)
        except (StaleNode, NarrowRange):
            self._served(member)
        except RetryElsewhere as error:
            if is_whole:
                self._failed(member, error)

    def _in_service(self) -> list[Node]:
        now_s = self.clock.monotonic_s()
        return [member.node for member in self._members if now_s >= member.rests_until_s]
