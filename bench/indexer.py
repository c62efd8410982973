"""One run of Ponder over a chain of tasks, in a process of its own."""

import asyncio
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from bench.environment import PEERS, node_modules_of
from bench.errors import Failed
from bench.listener import variables
from bench.process import Child, child
from bench.task_chain import TaskChain

PEER = "ponder"
_RUN_TIMEOUT_S = 180
_FILES = ("ponder.config.ts", "ponder.schema.ts", "package.json")
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds of time and CPU from the first to the last handler, seconds from the start, resident MiB."""

    wall_s: float
    cpu_s: float
    whole_s: float
    resident_mib: float


async def run_ponder(chain: TaskChain, tasks: int, cache: Path, folder: Path) -> Result:
    """Index a chain until the handler has stored all tasks. Raises Unavailable, and Failed if it never does."""
    node_modules = await node_modules_of(PEER, cache)
    for name in _FILES:
        shutil.copy(PEERS / PEER / name, folder)
    shutil.copytree(PEERS / PEER / "src", folder / "src")
    (folder / "node_modules").symlink_to(node_modules)
    marks = folder / "marks.jsonl"
    environment = {
        **variables(chain, "", folder),
        "BENCH_TASKS": str(tasks),
        "BENCH_MARKS": str(marks),
        "PONDER_TELEMETRY_DISABLED": "true",
    }
    command = ("node", str(node_modules / ".bin" / "ponder"), "start", "--schema", "bench", "-p", "0")
    began_s = time.time()
    async with child(PEER, command, folder, environment) as running:
        first, last = await _marks(marks, running)
        usage = running.usage()
    wall_s = (last["atMs"] - first["atMs"]) / 1000
    cpu_s = (last["cpuUs"] - first["cpuUs"]) / 1e6
    return Result(wall_s, cpu_s, last["atMs"] / 1000 - began_s, usage.whole_mib)


async def _marks(file: Path, running: Child) -> tuple[dict[str, float], dict[str, float]]:
    """Wait for the marks at the first and at the last task. Raises Failed."""
    ends_s = time.monotonic() + _RUN_TIMEOUT_S
    while time.monotonic() < ends_s:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) == 2:
            return json.loads(lines[0]), json.loads(lines[1])
        running.require_running()
        await asyncio.sleep(_POLL_S)
    raise Failed(f"Ponder did not store all tasks within {_RUN_TIMEOUT_S} s: {running.log_end()}")
