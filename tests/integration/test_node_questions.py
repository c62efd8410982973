"""The questions only `watcher check` asks of a node: code, storage, and logs of any topic."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_rig import Answers, Relay, asking, relaying
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.errors import NarrowRange, RetryElsewhere

SLOT = bytes.fromhex("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc")


def saying(relay: Relay, method: str, result: Any) -> None:
    def twist(asked: Answers, answers: Answers) -> Answers:
        for at, ask in enumerate(asked):
            if ask["method"] == method:
                answers[at] = {"jsonrpc": "2.0", "id": ask["id"], **result}
        return answers

    relay.twist = twist


async def test_code_storage_and_logs_are_read_and_what_is_none_is_refused(tmp_path: Path) -> None:
    options = DevnetOptions(directory=tmp_path, mining="auto", persist=False, upgradeable=True)
    async with Devnet(options) as net, relaying(net.rpc_url) as relay, asking(relay.url) as node:
        await net.create_tasks([b"one"])
        address, head = bytes.fromhex(net.task_manager[2:]), await net.chain.head()
        target = (await node.slot(address, SLOT, head))[-20:]
        assert any(target)
        assert await node.code(target, head)
        assert await node.code(b"\x99" * 20, head) == b""
        logs = await node.find(address, None, None, 0, head)
        assert len({log.topics[0] for log in logs}) > 2
        assert {log.address for log in logs} == {address}
        refusal = {"error": {"code": -32000, "message": "no"}}
        for method, bad in (
            ("eth_getCode", [{"result": "0xzz"}, {"result": None}, {"result": 5}, {"result": "0x123"}, refusal]),
            ("eth_getStorageAt", [{"result": "0x" + "f" * 65}, {"result": None}, {"result": ""}, refusal]),
            ("eth_getLogs", [{"result": {}}, {"result": [[]]}]),
        ):
            for word in bad:
                saying(relay, method, word)
                questions: dict[str, Callable[[], Awaitable[object]]] = {
                    "eth_getCode": lambda: node.code(address, head),
                    "eth_getStorageAt": lambda: node.slot(address, SLOT, head),
                    "eth_getLogs": lambda: node.find(address, None, None, 0, head),
                }
                with pytest.raises(RetryElsewhere, match=r"^http://127\.0\.0\.1:\d+: "):
                    await questions[method]()
        saying(relay, "eth_getStorageAt", {"result": "0x0"})  # as some nodes write an empty word
        assert await node.slot(address, SLOT, head) == bytes(32)
        saying(relay, "eth_getLogs", refusal)
        with pytest.raises(NarrowRange):
            await node.find(address, None, None, 0, head)
        stranger = {"address": "0x" + "88" * 20, "topics": ["0x" + "11" * 32], "data": "0x", "blockNumber": "0x1"}
        stranger |= {"blockHash": "0x" + "22" * 32, "transactionHash": "0x" + "33" * 32, "logIndex": "0x0"}
        bare = {**stranger, "address": net.task_manager, "topics": []}
        saying(relay, "eth_getLogs", {"result": [stranger, bare]})
        assert await node.find(address, None, None, 0, head) == ()
