"""The ingest: all tasks of a chain into an empty ledger, against web3 with a commit per task."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.report import Comparison, Report
from bench.rounds import alternate
from bench.run_spec import RunSpec
from bench.task_chain import deploy_with_tasks
from watcher.devnet.chain import Chain

_AIM = 15.0
_TASKS_PER_BLOCK = 20
# A page then has some thousand logs, as under the limits of hosted nodes.
_SPAN_BLOCKS = 100
_SIDES = ("ours ingest", "ours ingest, eth-abi", "naive ingest")
_PARTS = ("ours parts", "ours parts, eth-abi")


@dataclass(frozen=True, slots=True)
class Plan:
    """The number of tasks, and of runs of each side."""

    tasks: int
    repeats: int


async def run(
    chain: Chain, rpc_url: str, plan: Plan, directory: Path, report: Report, progress: Callable[[str], None]
) -> None:
    """Measure, and add the results to the report.

    Args:
        chain: a chain that mines on demand.
        rpc_url: its URL.
        plan: the sizes.
        directory: where runs go.
        report: gets the results.
        progress: gets a line before each step.

    Raises:
        Failed: a run ended without a result.
    """

    def created(count: int) -> None:
        if count % 1000 == 0:
            progress(f"creating tasks: {count:,} of {plan.tasks:,}")

    task_chain = await deploy_with_tasks(chain, rpc_url, plan.tasks, _TASKS_PER_BLOCK, created)
    specs = [RunSpec(side, task_chain, "", span_blocks=_SPAN_BLOCKS) for side in (*_SIDES, *_PARTS)]
    results = await asyncio.to_thread(alternate, specs, plan.repeats, {}, directory, progress)
    sides = {side: results[side] for side in _SIDES}
    name = "ingest: chain to ledger"
    report.comparisons.append(Comparison(name, sides, "naive ingest", _AIM, "ours ingest"))
    report.parts.update({side: results[side] for side in _PARTS})
