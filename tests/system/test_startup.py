"""What a daemon loads until it is ready, and while it answers a task. Times: `python -m bench --only start`."""

import re
from pathlib import Path

from tests.system.daemon_rig import Daemon, running_rig

_LOADED = re.compile(r"import time: .*\| +(\w+)")
_PROFILE = {"PYTHONPROFILEIMPORTTIME": "1"}  # the interpreter writes a line to stderr for each module it loads


def _packages(daemon: Daemon) -> set[str]:
    return set(_LOADED.findall(daemon.log))


async def test_a_daemon_loads_neither_web3_nor_alembic_to_its_final_tasks(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        first = await rig.start(environment=_PROFILE)
        await rig.create(2)
        await rig.settle()
        assert {"watcher", "aiohttp", "sqlalchemy"} <= _packages(first)
        assert 'hook.output: the hook printed line="import time' in first.log  # the workers' modules are among them
        assert not {"web3", "requests", "eth_account", "py_ecc", "apprise"} & _packages(first)
        # A new ledger is made without the revisions, and one of the newest revision is left alone.
        assert "alembic" not in _packages(first)
        assert await first.stop() == 0
