"""The first start on a contract with a past: one line tells of it, and no warning, error or alert."""

import asyncio
from pathlib import Path

from tests.system.daemon_rig import running_rig
from tests.system.receiver import listening


async def test_past_of_a_contract_is_one_line_and_no_alert(tmp_path: Path) -> None:
    async with running_rig(tmp_path, window_blocks=16) as rig, listening() as receiver:
        daemon = await rig.start()
        answered = await rig.create(2)
        await rig.net.mine(2)
        await rig.until(lambda: rig.in_pool() == 2, "the tasks are answered")
        await rig.settle()
        assert await daemon.stop() == 0
        late = await rig.create(2)
        await rig.net.mine(20)
        in_time = await rig.create()
        written = len(rig.log.read_text())
        rig.ledger = tmp_path / "second.db"
        second = {
            "WATCHER_LEDGER__URL": f"sqlite:///{rig.ledger}",
            "WATCHER_ALERTS__URLS": receiver.url,
            "WATCHER_ALERTS__INTERVAL_S": "1",
        }
        daemon = await rig.start(environment=second)
        await rig.settle()
        ends = dict.fromkeys(answered, "final_other") | dict.fromkeys(late, "expired") | dict.fromkeys(in_time, "final")
        assert rig.states() == ends
        assert await daemon.stop() == 0
        lines = rig.log.read_text()[written:].splitlines()
        (line,) = [line for line in lines if "before this ledger was begun" in line]
        assert " INFO " in line and "chain.history: " in line and "answered=2 expired=2" in line
        assert not [line for line in lines if "somebody else" in line or "missed" in line or " ERROR " in line]
        # What is missed afterwards is told as ever; by then an alert about the past would have come too.
        missed = await rig.create()
        await rig.net.mine(20)
        written = len(rig.log.read_text())
        daemon = await rig.start(environment=second)
        await asyncio.gather(
            rig.settle(),
            receiver.until(lambda: any("a task was missed" in title for title in receiver.titles), "the miss"),
        )
        told_of = [
            message for message in receiver.got if "missed" in message["title"] or "otherwise" in message["title"]
        ]
        assert len(told_of) == 1 and f"task {missed[0]}" in told_of[0]["message"], receiver.got
        assert "before this ledger was begun" not in rig.log.read_text()[written:], "said once"
        assert await daemon.stop() == 0
