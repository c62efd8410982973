"""One index whose view reverts keeps all other tasks of the batch waiting: contracts whose getter says `require(exists)` or reads an array.

Solidity's own array getters revert beyond the end; web3.py and viem have many reports of one reverting call that fails a whole multicall
(viem#702, dank_mids#483, trustbloc/orb#1583). Here: a node shows one log of an index that the contract does not know (docs/faults.md, R26).
Run in a clone:  cp test_case_poison_index.py CLONE/tests/system/ && .venv/bin/python -m pytest -q tests/system/test_case_poison_index.py
"""

from pathlib import Path

from tests.integration.node_rig import Answers, relaying
from tests.system.daemon_rig import running_rig

UNKNOWN = "%064x" % 77
REVERTED = {"error": {"code": 3, "message": "execution reverted: no such task", "data": "0x"}}


async def test_a_log_of_an_index_the_contract_reverts_for_holds_nobody_else_up(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, relaying(rig.net.rpc_url) as relay:
        rig.write_config(target="rig_hook:square", changes={rig.net.rpc_url: relay.url, f', "{rig.net.ws_url}"': ""})

        def twist(asked: Answers, answers: Answers) -> Answers:
            out = []
            for question, reply in zip(asked, answers, strict=True):
                if question["method"] == "eth_getLogs" and reply["result"]:
                    log = reply["result"][0]  # forged beside the true one: same block, another index
                    fake = log | {"logIndex": "0x7d", "topics": [log["topics"][0], "0x" + UNKNOWN]}
                    reply["result"].append(fake)
                elif question["method"] == "eth_call" and question["params"][0]["data"].endswith(UNKNOWN):
                    reply = {"jsonrpc": "2.0", "id": reply["id"]} | REVERTED  # what a getter with require() says
                out.append(reply)
            return out

        relay.twist = twist
        await rig.start()
        await rig.create()
        await rig.net.mine(2)
        async with rig.mining(0.3):
            await rig.until(
                lambda: len(rig.received()) >= 1, f"the true task is answered; {rig.states()}", timeout_s=25
            )
