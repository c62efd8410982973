"""The only node invents blocks for a moment: the daemon goes back to the chain, also after a restart, and answers."""

import time
from pathlib import Path

from tests.integration.invented_blocks import Inventor
from tests.integration.node_rig import relaying
from tests.system.daemon_rig import Rig, running_rig

AHEAD = 1_500


async def heal(rig: Rig) -> None:
    """The chain goes on, younger than what was read, until the daemon has seen it for long enough."""
    await rig.net.chain.rpc.call("evm_setNextBlockTimestamp", hex(int(time.time()) + 120))
    async with rig.mining(0.5):
        await rig.until(lambda: rig.cursor() < AHEAD, "the cursor is back on the chain", timeout_s=40)
        await rig.until(lambda: len(rig.states()) == 2 and rig.all_in("final"), "both tasks are final")


async def test_tasks_under_invented_blocks_are_answered_after_a_restart(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, relaying(rig.net.rpc_url) as relay:
        relay.twist = liar = Inventor()
        rig.write_config(target="rig_hook:dice", changes={f'"{rig.net.rpc_url}", "{rig.net.ws_url}"': f'"{relay.url}"'})
        daemon = await rig.start()
        await rig.create()
        await rig.net.mine(2)
        await rig.until(lambda: rig.in_pool() == 1, "the first is answered")
        await rig.caught_up()
        liar.ahead = AHEAD
        await rig.until(lambda: rig.cursor() > AHEAD, "invented blocks are read")
        await rig.create()
        liar.ahead = 0
        assert await daemon.stop() == 0
        daemon = await rig.start(ready=False)
        await heal(rig)
        assert rig.query("SELECT count(*) FROM events WHERE kind = 'cursor taken back'") == [(1,)]
        assert daemon.log.count("chain.blocks_invented: ") == 1
        assert len(rig.received()) == 2, "nothing is sent twice"
        await rig.verify()
        assert await daemon.stop() == 0
