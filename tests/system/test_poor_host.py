"""A host that offers little, and a Python with other habits: a task goes all its way there as anywhere."""

import os
from pathlib import Path

import pytest

from tests.system.daemon_rig import running_rig

pytestmark = pytest.mark.timeout(120)

POOR = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HOME": "/nonexistent", "TMPDIR": "/nonexistent"}
HABITS = {
    "no asserts, no UTF-8, no home, no folder for temporary files": POOR | {"PYTHONOPTIMIZE": "1"},
    "warnings are errors": {"PYTHONWARNINGS": "error::ResourceWarning,error::RuntimeWarning,error::UserWarning"},
}


@pytest.mark.parametrize("habit", HABITS)
async def test_a_task_goes_all_its_way(tmp_path: Path, habit: str) -> None:
    async with running_rig(tmp_path) as rig:
        rig.environment |= HABITS[habit]
        daemon = await rig.start()
        await rig.create(2)
        await rig.settle()
        assert await daemon.stop() == 0
        await rig.verify()


async def test_one_core_is_enough(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start()
        os.sched_setaffinity(daemon.process.pid, {min(os.sched_getaffinity(0))})
        await rig.create(20)
        await rig.settle()
        assert await daemon.stop() == 0
        await rig.verify()
