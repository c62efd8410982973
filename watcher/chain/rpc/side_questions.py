"""Optional questions, whose replies only improve a log line or a check: receipts, code, storage, versions.

Invariant: after any failure of such a question (error, nonsense, silence) its stage goes on and the endpoint stays in
use. A method that fails at an endpoint rests there for a while; other methods do not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from loguru import logger

from watcher.chain.rpc.node import Node
from watcher.chain.rpc.replies import Unread
from watcher.chain.rpc.transaction_reply import Receipt, Sender
from watcher.clock import Clock
from watcher.errors import RetryElsewhere, StaleNode
from watcher.task import Header

T = TypeVar("T")

_LIMIT_S = 5.0  # a stage waits no longer than this for one endpoint
_REST_S = 300.0


class SideQuestions:
    """Optional questions to the endpoints that `in_service` lists, in that order.

    `quorum` endpoints must give the same reply about the contract. A method rests for `rest_s` (monotonic time).
    """

    def __init__(
        self,
        in_service: Callable[[], Sequence[Node]],
        clock: Clock,
        quorum: int = 1,
        *,
        limit_s: float = _LIMIT_S,
        rest_s: float = _REST_S,
    ) -> None:
        self._in_service = in_service
        self._clock = clock
        self._quorum = quorum
        self._limit_s = limit_s
        self._rest_s = rest_s
        self._rests_until_s: dict[tuple[Node, str], float] = {}

    async def transaction_receipt(self, tx_hash: bytes) -> Receipt | Unread | None:
        """Return the receipt of a transaction; None if it is unknown or not mined, Unread if no endpoint replies."""
        replies = await self.ask("eth_getTransactionReceipt", lambda node: node.transaction_receipt(tx_hash))
        return replies[0] if replies else Unread("no endpoint answers eth_getTransactionReceipt")

    async def headers(self, heights: Sequence[int]) -> dict[int, Header] | None:
        """Return the blocks at some heights that the first endpoint has; None if no endpoint replies."""
        replies = await self.ask("eth_getBlockByNumber", lambda node: node.headers(heights))
        return replies[0] if replies else None

    async def senders(self, tx_hashes: Sequence[bytes]) -> dict[bytes, Sender] | None:
        """Return the senders of mined transactions that the first endpoint knows; None if no endpoint replies."""
        replies = await self.ask("eth_getTransactionByHash", lambda node: node.senders(tx_hashes))
        return replies[0] if replies else None

    async def account(self, address: bytes, slot: bytes, at: Header) -> tuple[bytes | None, bytes | None]:
        """Return a word of an account's storage and its code, as `quorum` endpoints give them alike; else None."""
        replies = await self.ask("eth_getStorageAt", lambda node: node.account(address, slot, at), self._quorum)
        alike = len(replies) == self._quorum and all(reply == replies[0] for reply in replies)
        return replies[0] if alike else (None, None)

    async def code(self, address: bytes, block: int) -> bytes:
        """Return the code at an address as of a height. Raises RetryElsewhere if no endpoint replies."""
        return await self._first("eth_getCode", lambda node: node.code(address, block))

    async def slot(self, address: bytes, place: bytes, block: int) -> bytes:
        """Return one word of a contract's storage as of a height. Raises RetryElsewhere if no endpoint replies."""
        return await self._first("eth_getStorageAt", lambda node: node.slot(address, place, block))

    async def client_version(self) -> str:
        """Return the software version of the first endpoint that names one, else ""."""
        replies = await self.ask("web3_clientVersion", lambda node: node.client_version())
        return replies[0] if replies else ""

    async def kept(self, number: int) -> list[Header | None]:
        """Return the block at a height as each endpoint that replies has it, None if it does not keep it.

        A failure does not make the method rest: this is asked at the start only, when a node may be down for a moment.
        """
        results = await asyncio.gather(*(node.kept(number) for node in self._in_service()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, RetryElsewhere):
                raise result
        return [header for header in results if not isinstance(header, BaseException)]

    async def _first(self, method: str, question: Callable[[Node], Awaitable[T]]) -> T:
        replies = await self.ask(method, question)
        if not replies:
            raise RetryElsewhere(f"no endpoint of chain.rpc_urls answers {method}")
        return replies[0]

    async def ask(self, method: str, question: Callable[[Node], Awaitable[T]], opinions: int = 1) -> list[T]:
        """Return the first usable replies; fewer than `opinions`, or none, if the nodes do not reply.

        Args:
            method: the JSON-RPC method, which rests at a node where it fails.
            question: puts the question to one node.
            opinions: the number of replies.
        """
        replies: list[T] = []
        for node in self._in_service():
            if len(replies) == opinions:
                break
            if self._clock.monotonic_s() < self._rests_until_s.get((node, method), 0.0):
                continue
            try:
                async with asyncio.timeout(self._limit_s):
                    replies.append(await question(node))
            except StaleNode:
                pass  # the failure is about the block, not about the method
            except (RetryElsewhere, TimeoutError) as error:
                self._rest(node, method, str(error) or f"no answer within {self._limit_s:g} s")
        return replies

    def _rest(self, node: Node, method: str, reason: str) -> None:
        if (node, method) not in self._rests_until_s:
            logger.info(
                "rpc.method_unanswered: the node does not answer an optional method",
                node=node.name,
                method=method,
                reason=reason,
                rest_s=self._rest_s,
            )
        self._rests_until_s[node, method] = self._clock.monotonic_s() + self._rest_s
