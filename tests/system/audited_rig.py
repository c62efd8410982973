"""A rig whose record an audit is about: one task that nobody answered, and one answered by us, both in an end state."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.system.daemon_rig import Rig, running_rig

EXPIRED, ANSWERED = 0, 1
_WINDOW_BLOCKS = 60


@asynccontextmanager
async def audited_rig(folder: Path) -> AsyncIterator[Rig]:
    """Run two tasks to their ends. No daemon runs then."""
    async with running_rig(folder, window_blocks=_WINDOW_BLOCKS, slots_in_epoch=2, hook="square") as rig:
        await rig.create(1)
        await rig.net.mine(_WINDOW_BLOCKS)
        await rig.create(1)
        async with rig.mining(0.2):
            daemon = await rig.start("--until-idle")
            assert await daemon.wait(timeout_s=90) == 0, daemon.log
        assert rig.states() == {EXPIRED: "expired", ANSWERED: "final"}
        yield rig
