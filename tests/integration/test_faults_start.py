"""What is settled before the first task: certificates of a node, a window that is too short, where to begin."""

from pathlib import Path
from random import Random

import pytest

from tests.integration.node_rig import Answers, asking, relaying
from tests.integration.operator_rig import Api, accepts
from tests.integration.test_operator_trust import FOR_ANOTHER_HOST, FOR_LOOPBACK, make_tls
from tests.system.daemon_rig import running_rig
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.clock import SystemClock
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.doctor.examine import Examination
from watcher.errors import RetryElsewhere
from watcher.settings.model import Settings


@pytest.mark.parametrize("certificate", [FOR_LOOPBACK, FOR_ANOTHER_HOST], ids=["self-signed", "another host"])
async def test_a_node_whose_certificate_does_not_hold_is_asked_nothing(
    certificate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Api(accepts, tls=make_tls(tmp_path, certificate)) as api:
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
        async with asking(api.url) as node:
            with pytest.raises(RetryElsewhere, match=r"(?i)certificate"):
                await node.head()
        assert not api.seen
    assert not (tmp_path / "keys.log").exists()


async def test_a_window_that_confirmations_use_up_is_warned_of(tmp_path: Path) -> None:
    async with Devnet(DevnetOptions(directory=tmp_path, mining="manual", window_blocks=6, persist=False)) as net:
        for confirmations, verdict in ((2, "ok"), (3, "warning"), (6, "wrong")):
            tables: dict[str, object] = {
                "chain": {"rpc_urls": [net.rpc_url], "chain_id": net.chain_id, "confirmations": confirmations},
                "task_manager": {"address": net.task_manager, "start_block": 0},
                "operator": {"api": "none"},
            }
            findings = await Examination(Settings(**tables)).run()  # type: ignore[arg-type]
            by_check = {finding.check: finding for finding in findings if finding.what == "contract"}
            assert "within 6 blocks" in by_check["views"].message
            assert by_check["window"].verdict == verdict
            assert verdict != "warning" or "leave little of a window of 6 blocks" in by_check["window"].message


async def test_latest_is_the_block_of_the_first_start_after_a_restart(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        start_block = f"start_block = {rig.net.manager.deployed_block}"
        await rig.create()  # before it ever began: not its task
        await rig.net.mine(2)
        rig.write_config(target="rig_hook:dice", changes={start_block: 'start_block = "latest"'})
        daemon = await rig.start()
        assert await daemon.stop() == 0
        missed = await rig.create(2)
        await rig.net.mine(3)
        daemon = await rig.start()
        await rig.until(lambda: rig.all_in("accepted", indices=missed), "what came meanwhile is answered")
        assert 0 not in rig.states()
        assert await daemon.stop() == 0
        rig.write_config(target="rig_hook:dice", changes={start_block: "start_block = 1000000"})
        daemon = await rig.start(ready=False)
        assert await daemon.wait() == 78
        assert "task_manager.start_block: this ledger was begun at block" in daemon.log


async def test_a_start_at_a_block_of_the_future_waits_for_it(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        deployed = rig.net.manager.deployed_block
        first_block = await rig.net.chain.head() + 10
        changes = {f"start_block = {deployed}": f"start_block = {first_block}"}
        rig.write_config(target="rig_hook:dice", changes=changes)
        daemon = await rig.start(ready=False)
        too_early = await rig.create(2)
        await rig.until(lambda: rig.cursor() == first_block - 1, "the ledger is begun")
        assert daemon.running
        await rig.net.mine(first_block - await rig.net.chain.head())
        indices = await rig.create(2)
        await rig.net.mine()
        await rig.until(lambda: rig.all_in("accepted", indices=indices), "what came from then on is answered")
        assert not set(too_early) & set(rig.states())
        assert "READY=1" in daemon.notices()
        assert await daemon.stop() == 0


async def test_first_index_is_found_in_the_logs_when_no_node_keeps_old_state(tmp_path: Path) -> None:
    async with (
        Devnet(DevnetOptions(directory=tmp_path, mining="auto", persist=False)) as net,
        relaying(net.rpc_url) as relay,
    ):
        await net.create_tasks([b"before"])
        start_block = await net.chain.head() + 1
        await net.create_tasks([b"first"])
        await net.create_tasks([b"second"])
        clock = SystemClock()
        nodes = NodePool([Node(relay.url, net.chain_id, clock)], clock, Random(1))
        contract = TaskManager(nodes, bytes.fromhex(net.task_manager[2:]), convention("wizard"), 100)
        refused = 0
        try:
            at = await nodes.head()

            def forgetful(asked: Answers, answers: Answers) -> Answers:
                """A node without an archive: state of the head only."""
                nonlocal refused
                error = {"code": -32000, "message": "missing trie node 5a1f (path ) state is not available"}
                for ask, (place, reply) in zip(asked, enumerate(answers), strict=True):
                    if ask["method"] == "eth_call" and ask["params"][1]["blockHash"] != "0x" + at.hash.hex():
                        refused += 1
                        answers[place] = {"jsonrpc": "2.0", "id": reply["id"], "error": error}
                return answers

            relay.twist = forgetful
            assert await contract.first_index(start_block, at, None) == 1
            assert refused == 1
        finally:
            await nodes.close()
