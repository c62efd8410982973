"""One endpoint of the chain: its questions, each with a checked value as the reply.

Invariants: every question begins with `eth_chainId`, so that no reply of another chain is used, and travels in one
JSON-RPC batch if the endpoint takes one of that size, else call after call; every failure is RetryElsewhere,
NarrowRange or StaleNode; no text holds more of the URL than scheme, host and port; no request outlasts its deadline.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from watcher.chain.rpc import block_reply, log_reply, prefetch, replies, transaction_reply, view_reply
from watcher.chain.rpc import calls as rpc_calls
from watcher.chain.rpc.batch import MOST_CALLS, PROBE_TIMEOUT_S, Asked, Batch
from watcher.chain.rpc.calls import Call, Caller, Emitters, LogQuery
from watcher.chain.rpc.errors import WORDS_LIMIT, RpcError, refused
from watcher.chain.rpc.prefetch import KEPT_S, LATEST
from watcher.chain.rpc.replies import Log, LogPage, Reverted, Unread
from watcher.chain.rpc.transaction_reply import Receipt, Sender
from watcher.chain.rpc.transport import Transport, Url
from watcher.clock import Clock
from watcher.errors import NarrowRange, RetryElsewhere
from watcher.task import Header

_VERSION_LIMIT_CHARS = 100


class Node:
    """The questions to one HTTP endpoint. Heights are block numbers.

    Raises:
        RetryElsewhere: any question, without a usable reply. `Paused`: the endpoint asks for a pause. `WrongChain`: it
            serves another chain.
    """

    def __init__(
        self,
        url: str,
        chain_id: int,
        clock: Clock,
        *,
        timeout_s: float = 30.0,
        body_limit_bytes: int = 16 * 1024 * 1024,
        batch_size: int = MOST_CALLS,
        prefetched_s: float = KEPT_S,
        observe: Callable[[Asked], None] = lambda _asked: None,
        transport: Transport | None = None,
    ) -> None:
        """Take the endpoint; `transport` are connections to it that others use, too, None: it has its own."""
        self._url = Url(url)
        self._chain_id = chain_id
        self._timeout_s = timeout_s
        self._is_shared = transport is not None
        self._transport = transport or Transport(self._url, body_limit_bytes=body_limit_bytes, clock=clock)
        # True if contracts count the parent chain's blocks, as `block_reply.header` takes it; None until that is known.
        self.l1_blocks: bool | None = None
        self._next_block: bool | None = None  # whether the node overrides the block of a call; None until that is known
        self._prefetched = prefetch.Replies(clock, prefetched_s)
        self._batch = Batch(self._transport, self._url.origin, chain_id, clock, timeout_s, batch_size, observe)

    @property
    def name(self) -> str:
        """The endpoint as it may be shown: scheme, host and port."""
        return self._url.origin

    async def close(self) -> None:
        """Close the connections that are this node's own. A later question opens new ones."""
        if not self._is_shared:
            await self._transport.close()

    async def chain_id(self) -> int:
        """Return the id of the chain, the configured one, or raise WrongChain. The cheapest sign of life."""
        with self._named():
            await self._batch.ask([], timeout_s=min(self._timeout_s, PROBE_TIMEOUT_S))
            return self._chain_id

    async def client_version(self) -> str:
        """Return the name that the node gives its software, on one printable line; "" without one."""
        with self._named():
            (received,) = await self._batch.ask(
                [("web3_clientVersion", [])], timeout_s=min(self._timeout_s, PROBE_TIMEOUT_S)
            )
            version = received if isinstance(received, str) else ""
            return "".join(char for char in self._scrubbed(version) if char.isprintable())[:_VERSION_LIMIT_CHARS]

    async def head(self, *, anew: bool = False) -> Header:
        """Return the newest block of the node; `anew`: not the one of the last look, but the first of a new one."""
        with self._named():
            if anew:
                self._prefetched.forget()
                self._prefetched.keep([LATEST], await self._batch.ask([LATEST]))
            (received,) = await self._ask([LATEST])
            return self._known(received, "latest")

    async def prefetch(self, calls: Sequence[Call], *, anew: bool) -> None:
        """Ask in one request what later questions ask; `anew`: for the newest block, too. A refusal is ignored."""
        await prefetch.try_prefetch(self._prefetched, self._batch.ask, calls, anew=anew)

    async def header(self, which: int | str) -> Header | None:
        """Return the block at a height, or at "finalized" or "safe"; None if this node names no such block."""
        with self._named():
            (received,) = await self._ask([rpc_calls.block(which)])
            return block_reply.named(received, which, self.l1_blocks)

    async def headers(self, heights: Sequence[int], *, looked: bool = False) -> dict[int, Header]:
        """Return the blocks at some heights, all asked for now, in one request. What this node lacks is left out.

        With `looked` they are those of the last look, if it had all of them.

        Raises:
            RetryElsewhere: also if the node refuses all of them for another reason.
        """
        with self._named():
            calls = [rpc_calls.block(height) for height in heights]
            received = self._prefetched.to(calls) if looked else None
            if received is None:
                received = await self._batch.ask(calls)
                self._prefetched.keep(calls, received)
            return block_reply.all_named(received, heights, self.l1_blocks)

    async def kept(self, number: int) -> Header | None:
        """Return the block at a height, None if the node does not keep it.

        Nodes word that in many ways, and some do not reply at all: any refusal counts as None while the node still
        replies to a trivial question.

        Raises:
            RetryElsewhere: the node does not reply to a trivial question either.
        """
        with self._named():
            try:
                limit_s = min(self._timeout_s, 2 * PROBE_TIMEOUT_S)
                (received,) = await self._batch.ask([rpc_calls.block(number)], narrow=True, timeout_s=limit_s)
            except NarrowRange:
                return None
            if isinstance(received, RpcError) and received.slow_down:
                raise refused(received)
            try:
                return self._known(received, number)
            except RetryElsewhere:
                return None

    async def page(self, query: LogQuery) -> LogPage:
        """Return all logs of a range of blocks.

        The header of the last block is read before the logs and again behind them, in the same batch: so the node had
        reached the end of the range, and the chain did not move meanwhile.

        Raises:
            NarrowRange: the node refuses the range, which is longer than one block.
            RetryElsewhere: the reply is unusable, or the chain moved meanwhile.
            StaleNode: the node has not reached the last block.
        """
        with self._named():
            first, last, after = query.first, query.last, query.after
            questions = [
                rpc_calls.logs(query.emitters, topics, first, last) for topics in query.topics or ([query.topics0],)
            ]
            calls = [rpc_calls.block(last), *questions, rpc_calls.block(last)]
            if after is not None:
                calls.append(rpc_calls.block(after.number))
            narrow = last > first
            received = await self._ask(calls, narrow=narrow)
            end = block_reply.range_end(received[0], last, self.l1_blocks)
            for item in received[1:]:
                if isinstance(item, RpcError):  # some nodes refuse what follows the logs because of their size
                    raise refused(item, narrow)
            replied = received[1 : 1 + len(questions)]
            raw = [log for reply in replied for log in log_reply.listed(reply, narrow) or ()]
            if self._known(received[1 + len(questions)], last) != end:
                raise RetryElsewhere(f"the chain moved meanwhile: block {last} changed")
            logs, foreign = await log_reply.checked(raw, query.emitters, frozenset(query.topics0), None, first, end)
            continuous = after is None or block_reply.continues(received[-1], after, end, self.l1_blocks)
            return LogPage(logs, end, continuous, foreign)

    async def find(
        self, address: Emitters, topic0: bytes | None, index: bytes | None, first: int, last: int
    ) -> tuple[Log, ...]:
        """Return the logs of a range with these first and second topics, None for any. Raises as `page` does."""
        with self._named():
            topics = [[topic] for topic in (topic0, index) if topic is not None]
            calls = [rpc_calls.block(last), rpc_calls.logs(address, topics, first, last)]
            narrow = last > first
            received = await self._batch.ask(calls, narrow=narrow)
            end = block_reply.range_end(received[0], last, self.l1_blocks)
            topics0 = None if topic0 is None else frozenset([topic0])
            return (
                await log_reply.checked(log_reply.listed(received[1], narrow), address, topics0, index, first, end)
            )[0]

    async def views(
        self, calls: Sequence[bytes], to: bytes, at: Header, caller: Caller | None = None
    ) -> list[bytes | Reverted | Unread]:
        """Return the result of an eth_call for each call data, on the state of one block. A revert is a value.

        Pinned by block hash (EIP-1898, canonical required): a node without the block, or with another in its place,
        cannot reply. A call that the node refuses, or whose reply is not bytes, is Unread; the other results stand.
        With a `caller` the calls are dry runs of its transactions, and the text of a refusal is a value, too.

        Raises:
            StaleNode: nothing can be read, because the node lacks the block or its state.
            Paused: the node asks to slow down.
        """
        with self._named():
            if caller is not None and caller.next_block and not await self._runs_next_block(at):
                caller = Caller(caller.address)
            asked = rpc_calls.views(calls, to, at, caller)
            received = self._prefetched.to(asked) if caller is None else None
            if received is None:
                received = await self._batch.ask_each(asked)
            return view_reply.all_viewed(received, at, self._scrubbed, lenient=caller is not None)

    async def _runs_next_block(self, at: Header) -> bool:
        """Return True if this node runs calls in the block after `at`. A trial call shows it, once for this node."""
        if self._next_block is None:
            (received,) = await self._batch.ask([rpc_calls.contract_block(at, next_block=True)])
            if isinstance(received, RpcError) and (
                received.slow_down or received.no_such_block or received.no_such_state
            ):
                return False  # a later trial may tell
            self._next_block = received == f"0x{at.number + 1:064x}"
        return self._next_block

    async def account(self, address: bytes, slot: bytes, at: Header) -> tuple[bytes | None, bytes | None]:
        """Return one word of an account's storage and its code at block `at`, None for what the node refuses.

        Raises:
            StaleNode: the node lacks the block or its state.
        """
        with self._named():
            word, code = await self._batch.ask([rpc_calls.storage(address, slot, at), rpc_calls.code(address, at)])
            for item in (word, code):
                if isinstance(item, RpcError):
                    view_reply.viewed(item, at, self._scrubbed, lenient=True)
            return (
                None if isinstance(word, RpcError) else replies.quantity(word, 2**256 - 1).to_bytes(32),
                None if isinstance(code, RpcError) else replies.octets(code),
            )

    async def code(self, address: bytes, block: int) -> bytes:
        """Return the code at an address as of a height, b"" without a contract."""
        with self._named():
            (received,) = await self._batch.ask([("eth_getCode", [rpc_calls.octets(address), hex(block)])])
            if isinstance(received, RpcError):
                raise refused(received)
            return replies.octets(received)

    async def slot(self, address: bytes, place: bytes, block: int) -> bytes:
        """Return one word (32 bytes) of a contract's storage as of a height."""
        with self._named():
            (received,) = await self._batch.ask(
                [("eth_getStorageAt", [rpc_calls.octets(address), rpc_calls.octets(place), hex(block)])]
            )
            if isinstance(received, RpcError):
                raise refused(received)
            return replies.quantity(received, 2**256 - 1).to_bytes(32)

    async def contract_block(self, at: Header) -> int | None:
        """Return `block.number` as a contract sees it in the state of `at`; None if this node cannot say."""
        with self._named():
            (received,) = await self._batch.ask([rpc_calls.contract_block(at)])
            if isinstance(received, RpcError) and received.slow_down:
                raise refused(received)
            try:
                return int.from_bytes(replies.octets(received, 32))
            except RetryElsewhere:
                return None

    async def transaction_receipt(self, tx_hash: bytes) -> Receipt | None:
        """Return the receipt of a transaction, None if this node does not know it, or it is not mined."""
        with self._named():
            (received,) = await self._batch.ask([("eth_getTransactionReceipt", [rpc_calls.octets(tx_hash)])])
            if isinstance(received, RpcError):
                raise refused(received)
            return transaction_reply.receipt(received)

    async def senders(self, tx_hashes: Sequence[bytes]) -> dict[bytes, Sender]:
        """Return the senders of mined transactions by hash. What this node does not know is left out."""
        with self._named():
            received = await self._batch.ask([rpc_calls.transaction(tx_hash) for tx_hash in tx_hashes])
            return transaction_reply.senders(received, tx_hashes)

    async def batch_room(self) -> int:
        """Return the most calls that this endpoint takes in one request, 1 without batches."""
        with self._named():
            await self.chain_id()
            return await self._batch.room()

    async def _ask(self, calls: Sequence[Call], *, narrow: bool = False) -> list[Any]:
        """Return the replies of the last look, if it had all of these calls; else ask."""
        replied = self._prefetched.to(calls)
        return await self._batch.ask(calls, narrow=narrow) if replied is None else replied

    def _known(self, received: Any, which: int | str) -> Header:
        return block_reply.known(received, which, self.l1_blocks)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Put the endpoint's name in front of every failure, and remove the secrets of its URL."""
        try:
            yield
        except RetryElsewhere as error:
            error.args = (f"{self.name}: {self._scrubbed(str(error))}",)
            raise

    def _scrubbed(self, text: str) -> str:
        return self._url.scrub(text)[:WORDS_LIMIT]
