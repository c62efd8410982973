"""Arbitrum and Orbit: `block.number` in a contract is the parent chain's, all else a node says is the chain's own.

OffchainLabs/arbitrum-docs#113, graph-network-subgraph#249, status-go#4646, connext monorepo#576. Played by a relay that
shows every block 1,000,000 higher than the contract sees it, with the contract's number in `l1BlockNumber`, as nitro
does.
"""

import json
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.integration.node_rig import Answers, relaying
from tests.system.daemon_rig import running_rig

AHEAD = 1_000_000


def down(height: Any) -> Any:
    return (
        hex(max(int(height, 16) - AHEAD, 0))
        if isinstance(height, str) and height.startswith("0x") and len(height) < 20
        else height
    )


async def test_task_is_answered_when_contracts_count_the_parents_blocks(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, relaying(rig.net.rpc_url) as relay:
        plain = {rig.net.rpc_url: relay.url, f', "{rig.net.ws_url}"': "", "start_block = ": f"start_block = {AHEAD}#"}
        rig.write_config(target="rig_hook:square", changes=plain)

        async def first(asked: Answers) -> web.StreamResponse:
            answers = []
            for request in asked:
                params = json.loads(json.dumps(request["params"]))
                genesis = request["method"] == "eth_getBlockByNumber" and params[0] == "0x0"
                if request["method"] == "eth_getBlockByNumber" and not genesis:
                    params[0] = down(params[0])
                elif request["method"] == "eth_getLogs":
                    params[0] |= {key: down(params[0][key]) for key in ("fromBlock", "toBlock")}
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(relay.target, json=request | {"params": params}) as answer,
                ):
                    reply = await answer.json()
                result = reply.get("result")
                for item in result if request["method"] == "eth_getLogs" else []:
                    item["blockNumber"] = hex(int(item["blockNumber"], 16) + AHEAD)
                if (
                    request["method"] in ("eth_getBlockByNumber", "eth_getTransactionReceipt")
                    and result
                    and not genesis
                ):
                    key = "number" if "number" in result else "blockNumber"
                    result |= {"l1BlockNumber": result[key], key: hex(int(result[key], 16) + AHEAD)}
                answers.append(reply)
            return web.json_response(answers if len(asked) > 1 else answers[0])

        relay.first = first
        await rig.start()
        await rig.create()
        await rig.net.mine(2)
        async with rig.mining(0.3):
            await rig.until(lambda: len(rig.received()) == 1, f"the answer is sent; the ledger says {rig.states()}")
