"""One node that lies about head or finality, beside others or alone: the daemon goes on, and nothing false stays."""

import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.integration.node_rig import Answers, relaying
from tests.system.daemon_rig import running_rig
from tests.torture.rpc_faults import RpcFault, RpcFaultKind
from tests.torture.rpc_twists import TWISTS
from watcher.devnet.chain import drop


def forked(asked: Answers, answers: Answers) -> Answers:
    TWISTS[RpcFaultKind.FORKED_NODE](RpcFault(RpcFaultKind.FORKED_NODE), random.Random(1), asked, answers)
    return answers


async def test_answers_go_out_when_one_node_of_three_is_ahead_on_a_fork(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        rig = await stack.enter_async_context(running_rig(tmp_path))
        liar, other = [await stack.enter_async_context(relaying(rig.net.rpc_url)) for _ in range(2)]
        urls = f'"{liar.url}", "{rig.net.rpc_url}", "{other.url}"'
        rig.write_config(target="rig_hook:square", changes={f'"{rig.net.rpc_url}", "{rig.net.ws_url}"': urls})
        liar.twist = forked
        daemon = await rig.start(WATCHER_CHAIN__QUORUM="2")
        await rig.create(2)
        async with rig.mining(0.3):
            await rig.until(lambda: set(rig.states().values()) == {"final"}, f"both are final; {daemon.log[-600:]}")
        assert "rpc.nodes_disagree" in daemon.log
        assert rig.query("SELECT count(*) FROM events WHERE kind = 'rewind'") == [(0,)]
        assert await daemon.stop() == 0


async def test_a_reorg_heals_when_one_node_calls_its_head_final(tmp_path: Path) -> None:
    newest: list[Any] = [None]

    def early(asked: Answers, answers: Answers) -> Answers:
        for question, answer in zip(asked, answers, strict=True):
            if question["params"][:1] == ["latest"] and question["method"] == "eth_getBlockByNumber":
                newest[0] = answer["result"]
            elif question["params"][:1] == ["finalized"]:
                answer["result"] = newest[0]
        return answers

    async with running_rig(tmp_path) as rig, relaying(rig.net.rpc_url) as relay:
        relay.twist = early
        rig.write_config(target="rig_hook:dice", changes={f'"{rig.net.rpc_url}", "{rig.net.ws_url}"': f'"{relay.url}"'})
        daemon = await rig.start()
        (index,) = await rig.create()
        await rig.net.mine(2)
        await rig.until(lambda: rig.in_pool() == 1, "the response is in the pool")
        await rig.net.mine()
        await rig.until(lambda: rig.state(index) == "final", "it is final far too early")
        await rig.net.chain.reorg(1, drop)
        await rig.until(lambda: rig.state(index) != "final", "the reorg takes it back")
        relay.twist = lambda _, answers: answers
        async with rig.mining(0.3):
            await rig.until(lambda: rig.state(index) == "final", f"it is final again; {daemon.log[-600:]}")
        assert {len(answers) for answers in rig.hook_answers().values()} == {1}, "the hook was not asked again"
        assert await daemon.stop() == 0
