"""A contract that changes while it is watched, on a real anvil: what is noticed, told, and taken over."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.node_rig import Answers, Relay
from tests.kit.chain import laid
from watcher.chain.contract import IMPLEMENTATION_SLOT, TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.drift import Drift
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.clock import SystemClock
from watcher.devnet.contract import call_data
from watcher.devnet.world import Devnet
from watcher.errors import StaleNode
from watcher.ledger import ingest, queries, source
from watcher.ledger.store import Ledger
from watcher.task import Header
from watcher.text import to_hex

PRESETS = Path(convention.__code__.co_filename).with_name("presets")
WINDOW = 20
DEPTH = 4  # finality


@dataclass
class Rig:
    """A devnet behind a proxy contract, a ledger, and what follows the two."""

    net: Devnet
    relay: Relay
    nodes: NodePool
    ledger: Ledger
    watch: Watch
    drift: Drift
    windows: list[int | None]

    async def read(self) -> None:
        while await self.watch.step() == 0:
            pass

    async def changes(self) -> list[str]:
        rows = await self.ledger.read(queries.recent_events, self.ledger.source_id)
        return [row.words for row in reversed(rows) if row.kind == source.CHANGED]

    async def deadlines(self) -> list[int]:
        rows = await self.ledger.read(lambda conn: list(queries.list_tasks(conn, self.ledger.source_id)))
        return [row.deadline_block - row.created_block for row in rows]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        ground = await laid(stack, tmp_path, window=WINDOW, upgradeable=True)
        watch = Watch(ground.source, WatchPlan(ground.net.chain_id, DEPTH, 100, 1))
        windows: list[int | None] = []
        drift = Drift(ground.source, watch.reader, None, windows.append)
        yield Rig(ground.net, ground.relays[0], ground.nodes, ground.ledger, watch, drift, windows)


async def test_drift_logs_nothing_when_nothing_has_changed(rig: Rig) -> None:
    await rig.read()
    for _ in range(3):
        await rig.drift.run()
        await rig.net.mine()
    known = await rig.ledger.read(source.known_facts, rig.ledger.source_id)
    assert await rig.changes() == []
    assert (known["response window"].value, known["aggregator"].value) == (
        str(WINDOW),
        rig.net.manager.roles.aggregator.lower(),
    )
    assert known["implementation"].value not in (None, rig.net.task_manager.lower())
    assert len(known["code hash"].value or "") == 66


async def test_new_aggregator_is_logged_once(rig: Rig) -> None:
    await rig.drift.run()
    roles = rig.net.manager.roles
    await rig.net.chain.run(roles.owner, rig.net.task_manager, call_data("setAggregator", roles.generator))
    await rig.drift.run()
    await rig.drift.run()
    assert await rig.changes() == [
        f"its aggregator was {roles.aggregator.lower()}, and is {roles.generator.lower()} now"
    ]
    assert rig.windows == []


async def test_longer_window_applies_at_once(rig: Rig) -> None:
    await rig.net.create_tasks([b"before"])
    await rig.read()
    await rig.drift.run()
    await rig.net.manager.upgrade(window_blocks=50)
    await rig.drift.run()
    assert await rig.deadlines() == [50]
    assert (rig.windows, rig.watch.reader.window_blocks) == ([50], 50)
    changed = [change.partition(" was ")[0] for change in await rig.changes()]
    assert changed == ["its implementation", "its response window"]
    await rig.net.create_tasks([b"after"])
    await rig.read()
    assert await rig.deadlines() == [50, 50]


async def test_window_out_of_range_never_ends(rig: Rig) -> None:
    """Owners who want no deadline set the highest number there is."""
    asks = "0x" + call_data("TASK_RESPONSE_WINDOW_BLOCK").hex()

    def endless(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"result": "0x" + "f" * 64}
            if ask["method"] == "eth_call" and asks in (ask["params"][0].get("data"), ask["params"][0].get("input"))
            else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    await rig.net.create_tasks([b"before"])
    await rig.read()
    await rig.drift.run()
    rig.relay.twist = endless
    await rig.net.mine()  # what was read of a block is not asked again
    await rig.drift.run()
    await rig.net.create_tasks([b"after"])
    await rig.read()
    assert await rig.deadlines() == [2**32 - 1] * 2


async def test_shorter_window_applies_when_its_block_is_final(rig: Rig) -> None:
    await rig.net.create_tasks([b"before"])
    await rig.read()
    await rig.drift.run()
    await rig.net.manager.upgrade(window_blocks=10)
    await rig.read()
    await rig.drift.run()
    assert await rig.deadlines() == [WINDOW]
    assert rig.watch.reader.window_blocks == 10
    await rig.net.mine(DEPTH + 1)
    await rig.read()
    await rig.drift.run()
    assert await rig.deadlines() == [10]
    assert len([change for change in await rig.changes() if "window" in change]) == 1


async def test_deadlines_stay_when_a_reorg_removes_the_upgrade(rig: Rig) -> None:
    await rig.net.create_tasks([b"before"])
    await rig.read()
    await rig.drift.run()
    before = await rig.net.chain.head()
    await rig.net.manager.upgrade(window_blocks=10)
    await rig.drift.run()
    depth = await rig.net.chain.head() - before
    await rig.net.chain.rpc.call("anvil_reorg", depth, [])
    await rig.net.mine(DEPTH + 3)
    await rig.read()
    await rig.drift.run()
    assert await rig.deadlines() == [WINDOW]
    assert rig.watch.reader.window_blocks == WINDOW


async def test_drift_learns_nothing_from_a_node_that_lags(rig: Rig) -> None:
    await rig.read()
    await rig.drift.run()
    head = await rig.nodes.head()
    await rig.ledger.write(
        ingest.record, rig.ledger.source_id, [], [], Header(head.number, head.hash, b""), head.number + 5
    )
    roles = rig.net.manager.roles
    await rig.net.chain.run(roles.owner, rig.net.task_manager, call_data("setAggregator", roles.generator))
    with pytest.raises(StaleNode):
        await rig.drift.run()
    assert await rig.changes() == []


async def test_storage_and_code_stay_when_a_node_does_not_show_them(rig: Rig) -> None:
    def without(asked: Answers, answers: Answers) -> Answers:
        refusal = {"code": -32601, "message": "the method does not exist"}
        return [
            {"jsonrpc": "2.0", "id": reply["id"], "error": refusal}
            if ask["method"] in ("eth_getStorageAt", "eth_getCode")
            else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    await rig.drift.run()
    known = await rig.ledger.read(source.known_facts, rig.ledger.source_id)
    rig.relay.twist = without
    await rig.drift.run()
    assert await rig.ledger.read(source.known_facts, rig.ledger.source_id) == known
    assert rig.nodes.seen[0].reason is None


async def test_a_word_without_its_leading_zeros_is_the_same_word(rig: Rig) -> None:
    def short(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"result": hex(int(reply["result"], 16))} if ask["method"] == "eth_getStorageAt" else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    await rig.drift.run()
    rig.relay.twist = short
    await rig.drift.run()
    assert await rig.changes() == []


@pytest.mark.parametrize("names", [("response",), ("call",), ("response", "call")])
async def test_another_contract_of_the_convention_that_changes_is_reported(
    rig: Rig, names: tuple[str, ...], tmp_path: Path
) -> None:
    """Responses are shown, or taken, at an address of their own, behind a proxy of its own."""
    other = "0x" + "33" * 20
    text = (PRESETS / "wizard.toml").read_text()
    for name in names:
        text = text.replace(f"[{name}]\n", f'[{name}]\naddress = "{other}"\n')
    file = tmp_path / "own.toml"
    file.write_text(text)

    async def implemented_by(digit: str) -> None:
        await rig.net.chain.rpc.call("anvil_setStorageAt", other, to_hex(IMPLEMENTATION_SLOT), "0x" + digit * 64)
        await rig.net.mine()

    await rig.net.chain.rpc.call("anvil_setCode", other, "0x60006000fd")
    await implemented_by("4")
    contract = TaskManager(rig.nodes, bytes.fromhex(rig.net.task_manager[2:]), convention("custom", file), 100)
    drift = Drift(Source(rig.nodes, contract, rig.ledger, SystemClock(), WINDOW), rig.watch.reader, None)
    await drift.run()
    await drift.run()
    assert await rig.changes() == []
    await implemented_by("5")
    await drift.run()
    where = f"{names[0]}.address"
    assert await rig.changes() == [f"its implementation at {where} was 0x{'4' * 40}, and is 0x{'5' * 40} now"], (
        "once, where two keys name the same address"
    )
