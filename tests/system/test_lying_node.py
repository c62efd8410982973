"""One node, alone, that does not tell the truth for a while: afterwards no task is lost and none has a wrong end."""

import random
import time
from pathlib import Path

from tests.integration.node_rig import Answers, Relay, relaying
from tests.system.daemon_rig import Rig, running_rig
from tests.torture.rpc_faults import RpcFault, RpcFaultKind
from tests.torture.rpc_twists import TWISTS

LAG_BLOCKS = 3


def alone(rig: Rig, relay: Relay) -> None:
    """The daemon has this node and no other."""
    rig.write_config(target="rig_hook:dice", changes={f'"{rig.net.rpc_url}", "{rig.net.ws_url}"': f'"{relay.url}"'})


async def test_four_seconds_of_zeros_give_no_task_a_wrong_end(tmp_path: Path) -> None:
    async with running_rig(tmp_path, window_blocks=200) as rig, relaying(rig.net.rpc_url) as relay:
        alone(rig, relay)
        await rig.start()
        await rig.create(3)
        await rig.net.mine(2)
        await rig.until(lambda: rig.all_in("accepted"), "all are accepted")
        await rig.net.mine()
        await rig.until(lambda: rig.all_in("responded"), "all are answered")
        began_s = time.monotonic()

        def zeros(asked: Answers, answers: Answers) -> Answers:
            if time.monotonic() - began_s < 4.0:
                TWISTS[RpcFaultKind.STALE_CALL](RpcFault(RpcFaultKind.STALE_CALL), random.Random(0), asked, answers)
            return answers

        relay.twist = zeros
        await rig.create(3)
        async with rig.mining(0.1):
            await rig.until(lambda: len(rig.states()) == 6 and rig.all_in("final"), "all are final", timeout_s=60)
        await rig.verify()


class Liar:
    """Lags, hides logs, shows zeros and invents logs, by chance and all at once."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.lies = True

    def __call__(self, asked: Answers, answers: Answers) -> Answers:
        if not self.lies:
            return answers
        for kind, probability in (
            (RpcFaultKind.LOGS_DROPPED, 0.8),
            (RpcFaultKind.LOGS_FORGED, 0.5),
            (RpcFaultKind.STALE_CALL, 0.7),
        ):
            if self._chance.random() < probability:
                TWISTS[kind](RpcFault(kind, fraction=0.8), self._chance, asked, answers)
        return answers


async def test_a_node_that_hides_empties_and_forges_costs_no_task(tmp_path: Path) -> None:
    async with running_rig(tmp_path, window_blocks=5000) as rig, relaying(rig.net.rpc_url) as relay:
        alone(rig, relay)
        await rig.start()
        relay.twist = liar = Liar(5)
        async with rig.mining(0.1):
            for _ in range(25):
                read = rig.cursor() + LAG_BLOCKS
                await rig.create()
                await rig.until(lambda read=read: rig.cursor() > read, "blocks are read")  # type: ignore[misc]
            liar.lies = False
            true = range(await rig.net.manager.count())
            # Holes are looked for, and ends that rest on zeros reviewed, once a minute.
            await rig.until(lambda: {rig.state(index) for index in true} == {"final"}, "all are final", timeout_s=150)
            await rig.until(lambda: set(rig.states()) == set(true), "forged tasks lost their block", timeout_s=150)
        await rig.verify()
