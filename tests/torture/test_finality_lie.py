"""A node that names a wrong final block must not make the ledger call final what is not: that halts it for good."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_rig import relaying
from tests.system.daemon_rig import running_rig

Answer = dict[str, Any]


def _higher(block: Answer) -> Answer:
    return block | {"number": hex(int(block["number"], 16) + 7)}


def _far_ahead(block: Answer) -> Answer:
    return block | {"number": hex(10**6)}


def _another(block: Answer) -> Answer:
    return block | {"hash": "0x" + "ab" * 32}


@pytest.mark.parametrize("lie", [_higher, _far_ahead, _another])
async def test_a_final_block_counts_only_when_its_height_shows_it_too(
    lie: Callable[[Answer], Answer], tmp_path: Path
) -> None:
    async with running_rig(tmp_path, slots_in_epoch=8) as rig, relaying(rig.net.rpc_url) as relay:
        lies = 0

        def twist(asked: list[Answer], answers: list[Answer]) -> list[Answer]:
            nonlocal lies
            for request, answer in zip(asked, answers, strict=True):
                if request["params"][:1] == ["finalized"]:
                    answer["result"], lies = lie(answer["result"]), lies + 1
            return answers

        relay.twist = twist
        rig.write_config(target="rig_hook:dice", changes={f'"{rig.net.rpc_url}", "{rig.net.ws_url}"': f'"{relay.url}"'})
        await rig.net.mine(30)
        daemon = await rig.start()
        await rig.until(lambda: lies >= 1, "the node has lied")
        await rig.net.mine()
        await rig.until(lambda: lies >= 2, "the node has lied again")
        assert rig.query("SELECT final_block FROM sources") == [(-1,)], "the lie was believed"
        relay.twist = lambda _, answers: answers
        await rig.net.mine()
        head = await rig.net.chain.head()
        await rig.until(lambda: rig.query("SELECT final_block FROM sources") == [(head - 16,)], "the truth is believed")
        assert await daemon.stop() == 0
