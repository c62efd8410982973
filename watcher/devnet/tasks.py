"""The deployed task manager: registers operators, creates tasks, sends and reads responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode

from watcher.devnet import bls
from watcher.devnet.chain import Chain
from watcher.devnet.contract import (
    Answered,
    TaskStruct,
    call_data,
    created_topic,
    decode_response,
    decode_task,
    deploy_data,
    deploy_proxy_data,
    responded_topic,
)
from watcher.devnet.conventions import WIZARD, Convention
from watcher.devnet.operators import Aggregate, Operator, make_operator
from watcher.errors import RetryElsewhere

CREATION_BATCH = 500
RESPONSE_GAS_LIMIT = 900_000
GAS_PER_BYTE = 100


@dataclass(frozen=True, slots=True)
class Roles:
    """The accounts of the local chain by role. Each has its own nonce, so that none delays another."""

    owner: str
    aggregator: str
    generator: str


async def deploy(
    chain: Chain, roles: Roles, window_blocks: int, convention: Convention = WIZARD, *, upgradeable: bool = False
) -> "TaskManager":
    """Deploy a task manager.

    Args:
        chain: the chain.
        roles: its accounts.
        window_blocks: the response window.
        convention: the contract's convention.
        upgradeable: put it behind a proxy, whose code `TaskManager.upgrade` replaces.
    """
    data = deploy_data(window_blocks, roles.aggregator, roles.generator, convention)
    receipt = await chain.run(roles.owner, None, data)
    if upgradeable:
        receipt = await chain.run(roles.owner, None, deploy_proxy_data(str(receipt["contractAddress"])))
    address, block = str(receipt["contractAddress"]), int(receipt["blockNumber"], 16)
    if upgradeable:
        # The constructor has written the storage of the implementation, not of the proxy.
        await chain.run(roles.owner, address, call_data("setAggregator", roles.aggregator))
        await chain.run(roles.owner, address, call_data("setGenerator", roles.generator))
    return TaskManager(chain, roles, address, block, convention)


class TaskManager:
    """A deployed task manager. Methods raise Reverted, NodeError and RetryElsewhere as `Chain` does."""

    def __init__(
        self, chain: Chain, roles: Roles, address: str, deployed_block: int, convention: Convention = WIZARD
    ) -> None:
        self.chain, self.roles, self.address, self.deployed_block = chain, roles, address, deployed_block
        self.convention = convention

    async def view(self, function: str, *arguments: Any) -> bytes:
        return await self.chain.call(self.address, self._data(function, *arguments))

    async def upgrade(self, window_blocks: int, convention: Convention | None = None) -> None:
        """Put new code behind the proxy, with another window or convention. Tasks, answers and operators stay."""
        convention = convention or self.convention
        data = deploy_data(window_blocks, self.roles.aggregator, self.roles.generator, convention)
        receipt = await self.chain.run(self.roles.owner, None, data)
        await self.chain.run(self.roles.owner, self.address, call_data("upgradeTo", receipt["contractAddress"]))
        self.convention = convention

    def _data(self, function: str, *arguments: Any) -> bytes:
        return call_data(function, *arguments, convention=self.convention)

    async def register(self, seed: str, stake: int, quorum_numbers: bytes) -> Operator:
        """Register an operator; it counts for tasks of the same block and later."""
        new = make_operator(seed, stake, quorum_numbers)
        proof = new.sign(await self.view("registrationDigest", new.id))
        arguments = bls.g1_words(new.pk_g1), bls.g2_words(new.pk_g2), bls.g1_words(proof), quorum_numbers, stake
        receipt = await self.chain.run(self.roles.owner, self.address, self._data("registerOperator", *arguments))
        return make_operator(seed, stake, quorum_numbers, int(receipt["blockNumber"], 16))

    async def create_task(self, message: bytes, threshold: int = 66, quorum_numbers: bytes = b"\x00") -> int:
        """Create one task, wait until it is mined, and return its index."""
        return (await self._created(await self.send_task(message, threshold, quorum_numbers)))[0]

    async def send_task(self, message: bytes, threshold: int, quorum_numbers: bytes) -> dict[str, Any]:
        """Create one task, wait until it is mined, and return the receipt of its transaction."""
        data = self._data(self.convention.create, self.convention.word(message), threshold, quorum_numbers)
        return await self.chain.run(self.roles.generator, self.address, data)

    async def create_tasks(
        self, messages: Sequence[bytes], threshold: int = 66, quorum_numbers: bytes = b"\x00"
    ) -> list[int]:
        """Create many tasks, CREATION_BATCH in each transaction, and return their indices."""
        indices: list[int] = []
        for start in range(0, len(messages), CREATION_BATCH):
            part = [self.convention.word(message) for message in messages[start : start + CREATION_BATCH]]
            data = self._data("createManyTasks", part, threshold, quorum_numbers)
            indices += await self._created(await self.chain.run(self.roles.generator, self.address, data))
        return indices

    async def _created(self, receipt: dict[str, Any]) -> list[int]:
        return [int(log["topics"][1], 16) for log in receipt["logs"]]

    async def count(self) -> int:
        return int.from_bytes(await self.view("latestTaskNum"), "big")

    async def task_at(self, index: int, created_block: int) -> tuple[TaskStruct | None, bytes]:
        """Return the task with this index that the block created, if any, and the contract's hash for the index.

        It takes one round trip: the index is a topic, and the node searches one block.
        """
        topics = [_hex(created_topic(self.convention)), _hex(index.to_bytes(32, "big"))]
        block = hex(created_block)
        span = {"address": self.address, "topics": topics, "fromBlock": block, "toBlock": block}
        request = {"to": self.address, "data": _hex(self._data("allTaskHashes", index))}
        logs, task_hash = await self.chain.rpc.batch([("eth_getLogs", [span]), ("eth_call", [request, "latest"])])
        task = decode_task(bytes.fromhex(logs[0]["data"][2:]), self.convention) if logs else None
        return task, bytes.fromhex(task_hash[2:])

    async def answers(self) -> list[Answered]:
        """Return every `TaskResponded` event on the chain, in order."""
        topics = [_hex(responded_topic(self.convention))]
        span = {"address": self.address, "topics": topics, "fromBlock": "0x0", "toBlock": "latest"}
        logs = await self.chain.rpc.call("eth_getLogs", span)
        answers = [decode_response(bytes.fromhex(log["data"][2:]), self.convention) for log in logs]
        return [
            Answered(index, message, int(log["blockNumber"], 16), log["transactionHash"])
            for (index, message), log in zip(answers, logs, strict=True)
        ]

    async def respond(self, task: TaskStruct, index: int, message: bytes, aggregate: Aggregate) -> str:
        """Send the response from the aggregator's account, do not wait, and return the transaction's hash.

        The gas is fixed: an estimate at the head of the creating block would fail, but not the transaction, which is
        mined a block later.
        """
        convention = task.convention
        arguments = task.values(), (index, convention.word(message)), aggregate.values()
        data = call_data(convention.respond, *arguments, convention=convention)
        gas = RESPONSE_GAS_LIMIT + GAS_PER_BYTE * len(data)
        return await self.chain.send(self.roles.aggregator, self.address, data, gas=gas)

    async def quorum(self, number: int, block: int) -> tuple[int, bls.G1Point]:
        """Return total stake and aggregate key of a quorum at a block."""
        _, total, x, y = decode(["uint32", "uint96", "uint256", "uint256"], await self.view("quorumAt", number, block))
        return total, (x, y)


async def roles_of(chain: Chain) -> Roles:
    """Return the roles of the chain's first three accounts. Raises RetryElsewhere if it has fewer."""
    accounts = await chain.accounts()
    if len(accounts) < 3:
        raise RetryElsewhere("the local chain has fewer than three accounts")
    return Roles(accounts[0], accounts[1], accounts[2])


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
