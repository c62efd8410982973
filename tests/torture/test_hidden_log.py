"""A log that no node shows is found by the gap in the indices, also by a daemon that never lives for a minute."""

from pathlib import Path
from typing import Any

from tests.integration.node_rig import relaying
from tests.system.daemon_rig import running_rig

Answer = dict[str, Any]


async def test_a_log_hidden_from_every_look_is_found_soon_after_a_start(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, relaying(rig.net.rpc_url) as relay:

        def hide(asked: list[Answer], answers: list[Answer]) -> list[Answer]:
            """What is asked for by its index is shown, and nothing else."""
            for request, answer in zip(asked, answers, strict=True):
                if request["method"] == "eth_getLogs" and len(request["params"][0]["topics"]) == 1:
                    answer["result"] = []
            return answers

        relay.twist = hide
        rig.write_config(target="rig_hook:dice", changes={f'"{rig.net.rpc_url}", "{rig.net.ws_url}"': f'"{relay.url}"'})
        await rig.create()
        await rig.net.mine(10)
        daemon = await rig.start()
        await rig.caught_up()
        await daemon.kill()
        daemon = await rig.start()
        await rig.until(lambda: rig.state(0) is not None, "the hidden task is found", timeout_s=20)
        assert await daemon.stop() == 0
