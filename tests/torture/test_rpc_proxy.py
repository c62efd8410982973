"""The proxy does what it says: honest without faults; each fault changes what the client sees and is written down."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.torture.lines import read_lines
from tests.torture.rpc_faults import PUSH, RANGE_DIALECTS, RpcFault, RpcFaultKind
from tests.torture.rpc_proxy import RpcProxy
from tests.torture.world import hexed
from watcher.devnet.contract import NEW_TASK_CREATED, TASK_RESPONDED, call_data
from watcher.devnet.world import Devnet, DevnetOptions

K = RpcFaultKind


def questions(net: Devnet, head: int, old_hash: str) -> list[dict[str, Any]]:
    """What the watcher asks in one breath, a call, one that needs the state of an old block, and a receipt."""
    topics = [[hexed(NEW_TASK_CREATED), hexed(TASK_RESPONDED)]]
    where = {"address": net.task_manager, "topics": topics, "fromBlock": "0x1", "toBlock": hex(head)}
    asked: list[tuple[str, list[Any]]] = [
        ("eth_chainId", []),
        ("eth_getBlockByNumber", [hex(head), False]),
        ("eth_getLogs", [where]),
        ("eth_call", [{"to": net.task_manager, "data": hexed(call_data("latestTaskNum"))}, "latest"]),
        ("eth_getBlockByNumber", ["latest", False]),
        ("eth_getBlockByNumber", ["finalized", False]),
        ("eth_call", [{"to": net.task_manager, "data": hexed(call_data("latestTaskNum"))}, {"blockHash": old_hash}]),
        ("eth_getTransactionReceipt", ["0x" + "77" * 32]),
    ]
    return [{"jsonrpc": "2.0", "id": i, "method": m, "params": p} for i, (m, p) in enumerate(asked)]


@asynccontextmanager
async def proxied(folder: Path) -> AsyncIterator[tuple[Devnet, RpcProxy, list[dict[str, Any]]]]:
    async with Devnet(DevnetOptions(directory=folder, mining="manual", persist=False)) as net:
        await net.create_tasks([bytes([number]) for number in range(5)])
        head = await net.mine(3)
        proxy = RpcProxy(net.anvil.http_url, folder / "faults.jsonl", random.Random(1), slots=2)
        await proxy.start()
        try:
            old = await net.chain.rpc.call("eth_getBlockByNumber", "0x1", False)
            yield net, proxy, questions(net, head, old["hash"])
        finally:
            await proxy.stop()
            proxy.faults.close()


async def ask(url: str, asked: list[dict[str, Any]]) -> tuple[int, Any]:
    """Status and answer; the name of the trouble in the place of an answer that cannot be read."""
    try:
        async with aiohttp.ClientSession() as session, session.post(url, json=asked) as answer:
            return answer.status, json.loads(await answer.read())
    except (aiohttp.ClientError, ValueError) as error:
        return 0, type(error).__name__


async def test_each_fault_changes_the_answer_once_and_is_written_down(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (net, proxy, asked):
        honest = await ask(net.rpc_url, asked)
        assert honest[0] == 200 and len(honest[1][2]["result"]) == 5
        assert await ask(proxy.url("a"), asked) == honest
        # Slow answers and packed ones are the same to a client that waits and unpacks; blanks behind a body too.
        alike = {K.SLOW, K.GZIPPED, K.HUGE}
        for kind in [kind for kind in K if kind not in PUSH]:
            fault = RpcFault(kind, times=1, endpoint="a", fraction=1.0, index=2, seconds=0.2)
            proxy.faults.add(fault)
            assert await ask(proxy.url("b"), asked) == honest, f"{kind} struck the wrong endpoint"
            twisted = [await ask(proxy.url("a"), asked) for _ in range(2 if kind is K.REPLICAS else 1)]
            assert (twisted[0] == honest) == (kind in alike or (kind is K.REPLICAS and twisted[1] != honest)), kind
            assert proxy.faults.struck[kind] == 1, kind
            assert proxy.faults.active == (), kind
            assert await ask(proxy.url("a"), asked) == honest, f"{kind} outlived its one time"
        assert {strike["fault"] for strike in read_lines(tmp_path / "faults.jsonl")} == {*K} - {*PUSH}


async def test_each_refusal_of_a_receipt_is_one_that_nodes_give(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (_, proxy, asked):
        proxy.faults.add(RpcFault(K.RECEIPTS_REFUSED, endpoint="a"))
        replies = [(await ask(proxy.url("a"), asked))[1][-1] for _ in range(30)]
        errors = {reply["error"]["message"].split(" e")[0] for reply in replies if "error" in reply}
        assert errors == {"transaction indexing is in progress", "the method"}
        pending = [reply["result"] for reply in replies if "error" not in reply]
        assert pending and all(reply["blockHash"] is None for reply in pending)
        assert {reply["transactionHash"] for reply in pending} == {"0x" + "77" * 32}


async def pushed(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    """That many notifications, or as many as come before the connection closes or falls silent."""
    messages: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(1.5):
            while len(messages) < count:
                message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                if "params" in (body := json.loads(message.data)):
                    messages.append(body["params"]["result"])
    except TimeoutError:
        pass
    return messages


@pytest.mark.parametrize("kind", PUSH)
async def test_each_fault_of_the_push_changes_what_is_pushed(kind: RpcFaultKind, tmp_path: Path) -> None:
    async with (
        proxied(tmp_path) as (net, proxy, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(proxy.ws_url("a")) as socket,
    ):
        where = {"address": net.task_manager}
        await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["logs", where]})
        assert isinstance((await socket.receive_json())["result"], str)
        await net.create_tasks([b"x", b"y"])
        honest = [log["logIndex"] for log in await pushed(socket, 2)]
        assert honest == ["0x0", "0x1"]
        proxy.faults.add(RpcFault(kind, times=1))
        await net.create_tasks([b"v", b"w"])
        logs = await pushed(socket, 3)
        seen = [(log["logIndex"], log.get("removed", False)) for log in logs]
        expected = {
            K.PUSH_SHUFFLED: [("0x1", False), ("0x0", False)],
            K.PUSH_DOUBLED: [("0x0", False), ("0x0", False), ("0x1", False)],
            K.PUSH_REMOVED: [("0x0", True), ("0x0", False), ("0x1", False)],
        }
        assert seen == expected.get(kind, [])
        assert proxy.faults.struck[kind] == 1
        assert socket.closed == (kind is K.PUSH_CLOSED)


def test_there_are_thirty_ways_to_refuse_a_range() -> None:
    assert len({message for _, _, message in RANGE_DIALECTS}) >= 30
