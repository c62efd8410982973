"""The local chain as a toy: transactions, blocks on demand, reorgs, roll-backs."""

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
    """A call or transaction was refused by the contract; `reason` is the contract's own text."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the contract refused: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction as it can be sent again. `offset` counts blocks from the first one of the range it came from."""

    request: dict[str, str]
    offset: int
    hash: str

    @classmethod
    def of(cls, mined: dict[str, Any], first_block: int) -> Self:
        request = {key: mined[key] for key in ("from", "to", "gas", "value", "input") if mined.get(key) is not None}
        return cls(request, int(mined["blockNumber"], 16) - first_block, mined["hash"])


# Given a transaction of the blocks taken back: the offset at which to mine it again, or None to drop it.
Place = Callable[[Transaction], int | None]


def drop(_: Transaction) -> int | None:
    return None


def keep(transaction: Transaction) -> int | None:
    return transaction.offset


class Chain:
    """What tests do to a chain. Accounts are anvil's own, which it signs for.

    `impatient`: `run` mines a block for its transaction instead of waiting for one.
    """

    def __init__(self, rpc: Rpc, *, impatient: bool = False) -> None:
        self.rpc, self.impatient = rpc, impatient
        # anvil picks the nonce on arrival; two sends at once from one account can get the same one, and one is lost.
        self._turn: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def accounts(self) -> list[str]:
        accounts: list[str] = await self.rpc.call("eth_accounts")
        return accounts

    async def head(self) -> int:
        return int(await self.rpc.call("eth_blockNumber"), 16)

    async def block(self, tag: int | str) -> dict[str, Any] | None:
        """By number or tag ("latest", "safe", "finalized"), with transaction hashes."""
        name = hex(tag) if isinstance(tag, int) else tag
        found: dict[str, Any] | None = await self.rpc.call("eth_getBlockByNumber", name, False)
        return found

    async def call(self, to: str, data: bytes, *, sender: str | None = None, tag: str = "latest") -> bytes:
        """An eth_call. Raises Reverted with the contract's reason."""
        request = {"to": to, "data": "0x" + data.hex()} | ({"from": sender} if sender else {})
        try:
            return bytes.fromhex((await self.rpc.call("eth_call", request, tag))[2:])
        except NodeError as error:
            if isinstance(error.data, str) and error.data.startswith("0x"):
                raise Reverted(revert_reason(bytes.fromhex(error.data[2:]))) from error
            raise

    async def send(self, sender: str, to: str | None, data: bytes, *, gas: int) -> str:
        """Puts a transaction into the pool and returns its hash. `gas` is fixed, so nothing is estimated or refused."""
        request = {"from": sender, "data": "0x" + data.hex(), "gas": hex(gas)} | ({"to": to} if to else {})
        async with self._turn[sender]:
            tx_hash: str = await self.rpc.call("eth_sendTransaction", request)
        return tx_hash

    async def receipt(self, tx_hash: str, *, timeout_s: float = RECEIPT_TIMEOUT_S) -> dict[str, Any]:
        """Waits until it is mined. Raises RetryElsewhere after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    found: dict[str, Any] | None = await self.rpc.call("eth_getTransactionReceipt", tx_hash)
                    if found is not None:
                        return found
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise RetryElsewhere(f"transaction {tx_hash} was not mined within {timeout_s:g} s") from None

    async def run(self, sender: str, to: str | None, data: bytes, *, gas: int = CREATION_GAS_LIMIT) -> dict[str, Any]:
        """Sends, waits, and raises Reverted with the reason when the transaction failed."""
        tx_hash = await self.send(sender, to, data, gas=gas)
        if self.impatient:
            await self.mine()
        receipt = await self.receipt(tx_hash)
        if int(receipt["status"], 16) != 1:
            raise Reverted(await self.failure(receipt["transactionHash"]))
        return receipt

    async def failure(self, tx_hash: str) -> str:
        """Why a mined transaction failed; a receipt does not say, so it is executed again."""
        trace = await self.rpc.call("debug_traceTransaction", tx_hash, {"tracer": "callTracer"})
        output = str(trace.get("output") or "0x")
        return (
            revert_reason(bytes.fromhex(output[2:])) if len(output) > 2 else str(trace.get("error", "no reason given"))
        )

    async def mine(self, blocks: int = 1) -> int:
        """Makes blocks at once, whatever the mining mode, and returns the new head."""
        await self.rpc.call("anvil_mine", hex(blocks))
        return await self.head()

    async def wait_for_block(self, number: int, *, timeout_s: float = RECEIPT_TIMEOUT_S) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while await self.head() < number:  # noqa: ASYNC110 - the chain has no event to wait for over HTTP
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise RetryElsewhere(f"the chain did not reach block {number} within {timeout_s:g} s") from None

    async def reorg(
        self, depth: int, place: Place = drop, extra: Sequence[tuple[dict[str, str], int]] = ()
    ) -> Sequence[Transaction]:
        """Replaces the last `depth` blocks by others of the same height and returns the transactions they held.

        `place` decides on each old transaction: the same offset keeps it, another one moves it, None drops it (anvil
        does not put it back into the pool). `extra` adds transactions at an offset. Order within a block is kept.
        """
        first = await self.head() - depth + 1
        blocks = await self.rpc.batch([("eth_getBlockByNumber", (hex(first + i), True)) for i in range(depth)])
        old = [Transaction.of(mined, first) for block in blocks for mined in block["transactions"]]
        placed = [(transaction.request, place(transaction)) for transaction in old]
        again = [[request, offset] for request, offset in placed if offset is not None]
        again += [[request, offset] for request, offset in extra]
        await self.rpc.call("anvil_reorg", depth, sorted(again, key=lambda pair: pair[1]))
        return old

    async def rollback(self, blocks: int) -> None:
        """The head goes back, and no subscriber hears of it."""
        await self.rpc.call("anvil_rollback", blocks)
