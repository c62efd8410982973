"""One run of the naive script in a process of its own."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.errors import Failed
from bench.peers.naive import Result, Spec
from bench.process import child
from bench.task_chain import CHAIN_ID, TaskChain

SPAN_BLOCKS = 100
_ROOT = Path(__file__).parent.parent


def spec_of(task_chain: TaskChain, api_url: str = "", limit_s: float = 0.0) -> Spec:
    """Return the script's run over a chain."""
    manager = task_chain.manager
    return Spec(task_chain.rpc_url, CHAIN_ID, manager.address, task_chain.start_block, SPAN_BLOCKS, api_url, limit_s)


async def run_script(spec: Spec, folder: Path, environment: Mapping[str, str] | None = None) -> Result:
    """Run the script to its end. Raises Failed without a result."""
    command = (sys.executable, "-m", "bench.peers.naive", spec.to_json())
    async with child("naive", command, folder, {"PYTHONPATH": str(_ROOT), **(environment or {})}) as script:
        code = await script.process.wait()
        if code:
            raise Failed(f"the naive script ended with code {code}: {script.log_end()}")
        return Result(**json.loads(script.log_end().splitlines()[-1]))
