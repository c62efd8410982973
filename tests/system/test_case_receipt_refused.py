"""A node that refuses eth_getTransactionReceipt (still indexing, or a pending transaction) while an answer has to be sent again.

go-ethereum#29956, ethers.js#4999 (error while the index is built); parity-ethereum#3482 (receipt of a pending transaction).
Run in a clone:  cp test_case_receipt_refused.py CLONE/tests/system/ && .venv/bin/python -m pytest -q tests/system/test_case_receipt_refused.py
"""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_rig import relaying
from tests.system.daemon_rig import running_rig
from watcher.devnet.faults import Fault, FaultKind

INDEXING = {"error": {"code": -32000, "message": "transaction indexing is in progress"}}
PENDING = {
    "result": {
        "transactionHash": "0x" + "ab" * 32,
        "blockHash": None,
        "blockNumber": None,
        "logs": [],
        "transactionIndex": "0x0",
    }
}


@pytest.mark.parametrize("refusal", [INDEXING, PENDING], ids=["indexing", "pending"])
async def test_answer_is_sent_again_when_the_node_refuses_the_receipt(tmp_path: Path, refusal: dict[str, Any]) -> None:
    async with running_rig(tmp_path) as rig, relaying(rig.net.rpc_url) as relay:
        rig.write_config(target="rig_hook:square", changes={rig.net.rpc_url: relay.url, f', "{rig.net.ws_url}"': ""})
        relay.twist = lambda asked, answers: [
            {"jsonrpc": "2.0", "id": reply["id"]} | refusal
            if question["method"] == "eth_getTransactionReceipt"
            else reply
            for question, reply in zip(asked, answers, strict=True)
        ]
        await rig.start()
        # The first request is accepted, names a transaction, and nothing ever lands.
        rig.net.hosted.faults.add(Fault(FaultKind.NEVER_LANDS, times=1), Fault(FaultKind.WRONG_TX_HASH, times=1))
        await rig.create()
        await rig.net.mine()
        await rig.until(lambda: len(rig.received()) == 1, "sent once")
        async with rig.mining(0.3):  # the window is 100 blocks
            await rig.until(lambda: len(rig.received()) >= 2, "sent again", timeout_s=45)
        await rig.settle()
        await rig.verify()
