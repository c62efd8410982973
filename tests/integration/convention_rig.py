"""The conventions as the reference has them, and a client for a devnet that plays one.

Types, topics and selectors are written out here, from the reference, and not taken from the code under test.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from watcher.devnet.chain import Reverted
from watcher.devnet.conventions import Name
from watcher.devnet.journal import read_journal
from watcher.devnet.world import Devnet, DevnetOptions

PASSWORD = "not a real one"
DEADLINE_S = 30.0
METADATA = "(uint32,bytes32)"
WINDOW = "TASK_RESPONSE_WINDOW_BLOCK"


@dataclass(frozen=True)
class Case:
    """A convention as the reference has it. Content is given as the contract's value, as a tuple in `task`."""

    name: Name
    task: str
    response: str
    creates: str
    responds: str
    created: str  # topics
    responded: str
    question: Any
    answer: Any
    created_first: bool  # block and threshold before the content
    views: tuple[str, ...]

    def task_words(self, block: int, threshold: int = 66, quorums: bytes = b"\x00") -> tuple[Any, ...]:
        if self.created_first:
            return block, threshold, self.question, quorums
        return self.question, block, quorums, threshold

    def params_raw(self, task: tuple[Any, ...], index: int, answer: Any = None) -> bytes:
        return encode([self.task, self.response], [task, (index, self.answer if answer is None else answer)])

    def digest(self, index: int, answer: Any = None) -> bytes:
        return keccak(encode([self.response], [(index, self.answer if answer is None else answer)]))

    @property
    def method(self) -> str:
        return self.responds.partition("(")[0]

    @staticmethod
    def as_bytes(value: Any) -> bytes:
        if isinstance(value, int):
            return value.to_bytes(32, "big")
        return value.encode() if isinstance(value, str) else bytes(value)


NSS = (
    "(uint32[],(uint256,uint256)[],(uint256,uint256)[],(uint256[2],uint256[2]),(uint256,uint256),"
    "uint32[],uint32[],uint32[][])"
)
_WIZARD = "(uint32,uint32,bytes,bytes)"
_SQUARING = "(uint256,uint32,bytes,uint32)"
_CHAINBASE = "(string,uint32,bytes,uint32)"
WIZARD = Case(
    name="wizard",
    task=_WIZARD,
    response="(uint32,bytes)",
    creates="createNewTask(bytes,uint32,bytes)",
    responds=f"respondToTask({_WIZARD},(uint32,bytes),{NSS})",
    created="ba37832bdd21742b86a633043b923a9aa978f1cfb2b274c6661eb573cf092bf0",
    responded="9b96c981c7c70a9f1702abb044782746c11d090f58ea34b12daf2cc53cf8ab5f",
    question=b"\x01\x02",
    answer=b"\x2a",
    created_first=True,
    views=(WINDOW,),
)
BRIDGE = Case(
    name="wizard-bridge",
    task=_WIZARD,
    response="(uint32,bytes)",
    creates="createNewBridgeRequest(bytes,uint32,bytes)",
    responds=f"respondToRequest({_WIZARD},(uint32,bytes),{NSS})",
    created=WIZARD.created,
    responded=WIZARD.responded,
    question=b"carry me over",
    answer=b"carried",
    created_first=True,
    views=(WINDOW,),
)
SQUARING = Case(
    name="incredible-squaring",
    task=_SQUARING,
    response="(uint32,uint256)",
    creates="createNewTask(uint256,uint32,bytes)",
    responds=f"respondToTask({_SQUARING},(uint32,uint256),{NSS})",
    created="1695b8d06ec800b4615e745cfb5bd00c1f2875615d42925c3b5afa543bb24c48",
    responded="349c1ee60e4e8972ee9dba642c1774543d5c4136879b7f4caaf04bf81a487a2a",
    question=12,
    answer=144,
    created_first=False,
    views=(WINDOW, "getTaskResponseWindowBlock", "taskNumber"),
)
CHAINBASE = Case(
    name="chainbase",
    task=_CHAINBASE,
    response="(uint32,string)",
    creates="createNewTask(string,uint32,bytes)",
    responds=f"respondToTask({_CHAINBASE},(uint32,string),{NSS})",
    created="b456431ed13b80d91ab280ac82018e48afde7e840d354010364822d756914479",
    responded="d0e833257cf2514f7f416921130672e0a5099b141e19ad5285b881ec34e9eb54",
    question="wie spät ist es?",
    answer="zwölf ✓",
    created_first=False,
    views=("taskNumber",),
)
CASES = [WIZARD, BRIDGE, SQUARING, CHAINBASE]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


class Client:
    """Speaks to the emulator as a program with the operator's password would."""

    def __init__(self, session: aiohttp.ClientSession, devnet: Devnet) -> None:
        self.session, self.devnet = session, devnet

    async def call(self, method: str, params: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        body = {"id": 1, "jsonrpc": "2.0", "method": method, "params": [params]}
        headers = {"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()}
        async with self.session.post(self.devnet.api_url, json=body, headers=headers) as got:
            answer: dict[str, Any] = await got.json()
            return got.status, answer

    async def operator(self, case: Case, index: int, block: int, **change: Any) -> tuple[int, dict[str, Any]]:
        params = {
            "avs_name": "devnet",
            "method": case.method,
            "params_raw": "0x" + case.params_raw(case.task_words(block), index).hex(),
            "reference_block_number": block,
            "quorum_numbers": [0],
            "quorum_threshold_percentages": [66],
            "sig_hash": "0x" + case.digest(index).hex(),
        }
        return await self.call("operator_createSigTask", params | change)

    async def proxy(self, case: Case, index: int, block: int, **change: Any) -> tuple[int, dict[str, Any]]:
        params = {
            "method": case.method,
            "task_created_block": block,
            "message": "0x" + case.as_bytes(case.question).hex(),
            "task_index": index,
            "resp_message": "0x" + case.as_bytes(case.answer).hex(),
        }
        return await self.call("operator_createSigTaskResponse", params | change)


@asynccontextmanager
async def world(case: Case, **options: Any) -> AsyncIterator[Client]:
    resolved = DevnetOptions(mining="auto", password=PASSWORD, persist=False, convention=case.name, **options)
    async with Devnet(resolved) as devnet, aiohttp.ClientSession(trust_env=False) as session:
        yield Client(session, devnet)


async def make(devnet: Devnet, case: Case, count: int = 1) -> int:
    """Makes tasks 0.. and returns their block."""
    assert await devnet.create_tasks([case.as_bytes(case.question)] * count) == list(range(count))
    return await devnet.chain.head()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - files and nodes have no events
            await asyncio.sleep(0.02)


async def records(devnet: Devnet, what: str, count: int) -> list[dict[str, Any]]:
    """The journal's records of a kind, once there are so many."""

    def matching() -> list[dict[str, Any]]:
        return [record for record in read_journal(devnet.journal.path) if record["what"] == what]

    async def enough() -> bool:
        return len(matching()) >= count

    await until(enough)
    return matching()


async def respond(devnet: Devnet, case: Case, index: int, block: int, sender: str | None = None) -> None:
    """Answers straight at the contract. Raises Reverted."""
    task, manager = case.task_words(block), devnet.manager
    aggregate = devnet.operators.aggregate(case.digest(index), b"\x00", block, devnet.aggregator.absent)
    arguments = encode([case.task, case.response, NSS], [task, (index, case.answer), aggregate.values()])
    data = keccak(case.responds.encode())[:4] + arguments
    await devnet.chain.run(sender or manager.roles.aggregator, devnet.task_manager, data, gas=2_000_000)


async def words_of(refused: Awaitable[Any]) -> str:
    with pytest.raises(Reverted) as caught:
        await refused
    return caught.value.reason
