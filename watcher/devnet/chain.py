"""The control of a local chain: transactions, blocks on demand, reorgs, roll-backs."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from watcher.devnet.contract import revert_reason
from watcher.devnet.rpc import NodeError, Rpc
from watcher.errors import RetryElsewhere

RECEIPT_TIMEOUT_S = 30.0
POLL_S = 0.02
CREATION_GAS_LIMIT = 300_000_000


class Reverted(RetryElsewhere):
    """The contract refused a call or transaction; `reason` is its text."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the contract refused: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction to be sent again. `offset` counts blocks from the first one of the replaced range."""

    request: dict[str, str]
    offset: int
    hash: str

    @classmethod
    def of(cls, mined: dict[str, Any], first_block: int) -> Self:
        request = {key: mined[key] for key in ("from", "to", "gas", "value", "input") if mined.get(key) is not None}
        return cls(request, int(mined["blockNumber"], 16) - first_block, mined["hash"])


# Returns the offset at which a transaction of replaced blocks is mined again; None: it is dropped.
Place = Callable[[Transaction], int | None]


def drop(_: Transaction) -> int | None:
    """Drop the transaction."""
    return None


def keep(transaction: Transaction) -> int | None:
    """Keep the transaction in its block."""
    return transaction.offset


class Chain:
    """A local chain under control. The accounts are anvil's own, which it signs for.

    `impatient`: `run` mines a block for its transaction and does not wait for one.
    """

    def __init__(self, rpc: Rpc, *, impatient: bool = False) -> None:
        self.rpc, self.impatient = rpc, impatient
        # anvil picks the nonce on arrival: of two concurrent sends of one account, one could be lost.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def accounts(self) -> list[str]:
        accounts: list[str] = await self.rpc.call("eth_accounts")
        return accounts

    async def head(self) -> int:
        return int(await self.rpc.call("eth_blockNumber"), 16)

    async def block(self, tag: int | str) -> dict[str, Any] | None:
        """Return a block by number or tag ("latest", "safe", "finalized"), with transaction hashes; None: unknown."""
        name = hex(tag) if isinstance(tag, int) else tag
        block: dict[str, Any] | None = await self.rpc.call("eth_getBlockByNumber", name, False)
        return block

    async def call(self, to: str, data: bytes, *, sender: str | None = None, tag: str = "latest") -> bytes:
        """Return the result of an eth_call.

        Args:
            to: the contract.
            data: selector and arguments.
            sender: the calling account; None: the node's default.
            tag: the block whose state is read.

        Raises:
            Reverted: the contract refused the call.
        """
        request = {"to": to, "data": "0x" + data.hex()} | ({"from": sender} if sender else {})
        try:
            return bytes.fromhex((await self.rpc.call("eth_call", request, tag))[2:])
        except NodeError as error:
            if isinstance(error.data, str) and error.data.startswith("0x"):
                raise Reverted(revert_reason(bytes.fromhex(error.data[2:]))) from error
            raise

    async def send(self, sender: str, to: str | None, data: bytes, *, gas: int) -> str:
        """Put a transaction into the pool and return its hash. With a fixed `gas` the node estimates nothing."""
        request = {"from": sender, "data": "0x" + data.hex(), "gas": hex(gas)} | ({"to": to} if to else {})
        async with self._locks[sender]:
            tx_hash: str = await self.rpc.call("eth_sendTransaction", request)
        return tx_hash

    async def receipt(self, tx_hash: str, *, timeout_s: float = RECEIPT_TIMEOUT_S) -> dict[str, Any]:
        """Wait until a transaction is mined, and return its receipt.

        Raises:
            RetryElsewhere: it is not mined within `timeout_s` seconds.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    receipt: dict[str, Any] | None = await self.rpc.call("eth_getTransactionReceipt", tx_hash)
                    if receipt is not None:
                        return receipt
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise RetryElsewhere(f"transaction {tx_hash} was not mined within {timeout_s:g} s") from None

    async def run(self, sender: str, to: str | None, data: bytes, *, gas: int = CREATION_GAS_LIMIT) -> dict[str, Any]:
        """Send a transaction, wait until it is mined, and return its receipt.

        Args:
            sender: the account that sends.
            to: the contract; None: create one.
            data: the call data, or the code of the new contract.
            gas: the gas limit.

        Raises:
            Reverted: the transaction failed.
        """
        tx_hash = await self.send(sender, to, data, gas=gas)
        if self.impatient:
            await self.mine()
        receipt = await self.receipt(tx_hash)
        if int(receipt["status"], 16) != 1:
            raise Reverted(await self.failure(receipt["transactionHash"]))
        return receipt

    async def failure(self, tx_hash: str) -> str:
        """Return why a mined transaction failed. A receipt does not say, so the transaction is traced."""
        trace = await self.rpc.call("debug_traceTransaction", tx_hash, {"tracer": "callTracer"})
        output = str(trace.get("output") or "0x")
        return (
            revert_reason(bytes.fromhex(output[2:])) if len(output) > 2 else str(trace.get("error", "no reason given"))
        )

    async def mine(self, blocks: int = 1) -> int:
        """Make blocks at once, in any mining mode, and return the new head."""
        await self.rpc.call("anvil_mine", hex(blocks))
        return await self.head()

    async def wait_for_block(self, number: int, *, timeout_s: float = RECEIPT_TIMEOUT_S) -> None:
        """Wait until the head has reached a block.

        Raises:
            RetryElsewhere: it has not within `timeout_s` seconds.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while await self.head() < number:  # noqa: ASYNC110 - there are no events over HTTP
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise RetryElsewhere(f"the chain did not reach block {number} within {timeout_s:g} s") from None

    async def reorg(
        self, depth: int, place: Place = drop, extra: Sequence[tuple[dict[str, str], int]] = ()
    ) -> Sequence[Transaction]:
        """Replace the last `depth` blocks by others of the same height. Order within a block is kept.

        Args:
            depth: the number of blocks.
            place: decides on each old transaction: the same offset keeps it, another one moves it, None drops it
                (anvil does not put it back into the pool).
            extra: further transactions, each with its offset.

        Returns:
            The transactions of the replaced blocks.
        """
        first = await self.head() - depth + 1
        blocks = await self.rpc.batch([("eth_getBlockByNumber", (hex(first + i), True)) for i in range(depth)])
        old = [Transaction.of(mined, first) for block in blocks for mined in block["transactions"]]
        placed = [(transaction.request, place(transaction)) for transaction in old]
        new = [[request, offset] for request, offset in placed if offset is not None]
        new += [[request, offset] for request, offset in extra]
        await self.rpc.call("anvil_reorg", depth, sorted(new, key=lambda pair: pair[1]))
        return old

    async def rollback(self, blocks: int) -> None:
        """Take blocks off the head. Subscribers get no event of it."""
        await self.rpc.call("anvil_rollback", blocks)
