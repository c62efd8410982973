"""The daemon and its commands on a chain whose contracts count the parent chain's blocks."""

import json
from pathlib import Path

from tests.integration.l1_rig import L1Relay, l1_relaying
from tests.system.daemon_rig import Rig, running_rig

BLOCKS_PER_L1 = 40


def configure(rig: Rig, relay: L1Relay, start_block: int, *, hook: str = "square") -> None:
    plain = {rig.net.rpc_url: relay.url, f', "{rig.net.ws_url}"': "", "start_block = ": f"start_block = {start_block}#"}
    rig.write_config(target=f"rig_hook:{hook}", changes=plain)


async def test_tasks_end_by_the_parents_blocks_over_a_restart(tmp_path: Path) -> None:
    async with running_rig(tmp_path, window_blocks=30) as rig, l1_relaying(rig.net.rpc_url, BLOCKS_PER_L1) as relay:
        configure(rig, relay, relay.number(0))
        daemon = await rig.start()
        answered = await rig.create()
        await rig.net.mine(2)
        await rig.until(lambda: rig.in_pool() == 1, "the first task is answered")
        await rig.net.mine(3)
        await rig.until(lambda: rig.states().get(answered[0]) in ("responded", "final"), "the answer is on the chain")
        assert await daemon.stop() == 0
        # Nobody answers the second one: more blocks than its window pass on the chain, and none as contracts count.
        relay.place = 0
        missed = await rig.create()
        check = await rig.command("check", "--json", WATCHER_OPERATOR__API="none")
        lines = {(finding["what"], finding["check"]): finding for finding in check.json}
        assert lines["node", "block numbers"]["verdict"] == "ok"
        assert "the parent chain's blocks" in lines["node", "block numbers"]["words"]
        assert ("contract", "created block") not in lines, "what the log and the contract say goes together"
        observer = await rig.start(WATCHER_OPERATOR__API="none")
        relay.place = BLOCKS_PER_L1 - 1
        await rig.until(lambda: rig.states().get(missed[0]) == "seen" or missed[0] in rig.states(), "it is read")
        proof = await rig.prove()
        assert (proof["ok"], proof["open"], proof["expired"]) == (True, missed, [])
        await rig.net.mine(40)
        async with rig.mining(0.5):
            await rig.until(lambda: rig.states().get(missed[0]) == "expired", "it expires", timeout_s=45)
        proof = await rig.prove()
        assert (proof["ok"], proof["answered_by_us"], proof["expired"]) == (True, 1, missed)
        second = next(task for task in await rig.tasks() if task["task_index"] == missed[0])
        assert second["deadline_block"] == second["task_created_block"] + 30 < relay.plain(second["block_number"]) + 31
        assert await observer.stop() == 0


async def test_every_command_refuses_a_chain_whose_nodes_hide_its_block_numbers(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, l1_relaying(rig.net.rpc_url, BLOCKS_PER_L1) as relay:
        configure(rig, relay, relay.number(0))
        daemon = await rig.start()
        await rig.create()
        await rig.net.mine(2)
        await rig.until(lambda: len(rig.received()) == 1, "it is answered while blocks show l1BlockNumber")
        assert await daemon.stop() == 0
        relay.shows_l1 = False
        refused = await rig.start(ready=False)
        await rig.until(lambda: not refused.running, "the daemon gives up")
        assert await refused.wait() == 78
        assert "chain.contract_blocks: contracts on this chain see block" in refused.log
        check = await rig.command("check", "--json")
        red = [finding for finding in check.json if finding["verdict"] == "wrong"]
        assert check.code == 78, json.dumps(red)
        assert any(finding["check"] == "block numbers" and "docs/chains.md" in finding["words"] for finding in red), red
        proof = await rig.command("prove", "--json")
        assert (proof.code, proof.out) == (78, ""), "nothing is proven in numbers that cannot be compared"


async def test_nothing_is_sent_again_before_the_chain_had_its_blocks(tmp_path: Path) -> None:
    async with running_rig(tmp_path, window_blocks=30) as rig, l1_relaying(rig.net.rpc_url, BLOCKS_PER_L1) as relay:
        configure(rig, relay, relay.number(0))
        await rig.start(WATCHER_OPERATOR__RESOLVE_AFTER_BLOCKS="10")
        relay.place = 0
        await rig.create()
        plain = await rig.net.chain.head()
        relay.place = 2
        await rig.until(lambda: rig.states().get(0) == "accepted", "the API takes the answer, no block brings it")
        assert rig.query("SELECT due_block FROM tasks") == [(relay.number(plain, 2) + 10,)]
        for place in range(3, 12):
            relay.place = place
            await rig.until(lambda: rig.cursor() == relay.number(plain, relay.place), "the block is read")
        assert len(rig.received()) == 1, "nine blocks are not ten"
        relay.place = 12
        await rig.until(lambda: len(rig.received()) == 2, "it is sent again once the chain had its blocks")
