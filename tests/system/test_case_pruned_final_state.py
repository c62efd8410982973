"""A full node keeps the state of the newest 128 blocks; where the final block is older (L2s always, L1 when finality stalls), it is gone.

go-ethereum#20874, #25826 (128 states), op-geth nodes alike. Scaled down here: 6 states are kept, final is 12 blocks behind.
Run in a clone:  cp test_case_pruned_final_state.py CLONE/tests/system/ && .venv/bin/python -m pytest -q tests/system/test_case_pruned_final_state.py
"""

from pathlib import Path

from tests.integration.node_rig import Answers, relaying
from tests.system.daemon_rig import running_rig
from watcher.devnet.faults import Fault, FaultKind

KEPT = 6
GONE = {"error": {"code": -32000, "message": "missing trie node 5d2a (path ) state 0x5d2a is not available, not found"}}


async def test_a_node_without_the_state_of_the_final_block_stops_nothing(tmp_path: Path) -> None:
    async with running_rig(tmp_path, window_blocks=40) as rig, relaying(rig.net.rpc_url) as relay:
        plain = {rig.net.rpc_url: relay.url, f', "{rig.net.ws_url}"': "", 'finality = "finalized"': "finality = 12"}
        rig.write_config(target="rig_hook:square", changes=plain)
        heights: dict[str, int] = {}

        def twist(asked: Answers, answers: Answers) -> Answers:
            for reply in answers:
                if isinstance(reply.get("result"), dict) and "parentHash" in reply["result"]:
                    heights[reply["result"]["hash"]] = int(reply["result"]["number"], 16)
            head = max(heights.values(), default=0)
            return [
                {"jsonrpc": "2.0", "id": reply["id"]} | GONE
                if question["method"] == "eth_call"
                and heights.get(question["params"][1]["blockHash"], head) < head - KEPT
                else reply
                for question, reply in zip(asked, answers, strict=True)
            ]

        relay.twist = twist
        await rig.start()
        rig.net.hosted.faults.add(Fault(FaultKind.NEVER_LANDS))
        await rig.create()  # nobody will ever see an answer to this one
        await rig.net.mine(2)
        await rig.until(lambda: len(rig.received()) >= 1, "sent")
        async with rig.mining(0.15):
            await rig.until(lambda: rig.cursor() > 70, "its window is long past")
            rig.net.hosted.faults.clear()
            rig.net.hosted.faults.add(Fault(FaultKind.NEVER_LANDS, times=1))
            await rig.create()  # accepted, and does not land: it has to be sent again
            sent = len(rig.received())
            await rig.until(lambda: len(rig.received()) >= sent + 2, "the second task is sent again", timeout_s=30)
        await rig.settle()
        assert rig.states() == {0: "expired", 1: "final"}
