"""The burst: many tasks at once, until the last outcome is committed; with fsyncs as they are, and with slow ones."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench import shim
from bench.report import Comparison, Report
from bench.rounds import alternate
from bench.run_spec import RunSpec, TaskChain
from bench.server import instant_api
from bench.task_chain import deploy_with_tasks
from watcher.devnet.chain import Chain
from watcher.settings.operator import Operator

_AIM, _AIM_SLOW = 3.0, 30.0
_TASKS_PER_BLOCK = 500
_DEFAULT_CONCURRENCY: int = Operator.model_fields["concurrency"].default


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of a burst. `slow_fsync_ms` is added to each fsync; `concurrency` is that of the watcher."""

    tasks: int
    naive_tasks: int
    repeats: int
    slow_fsync_ms: float
    concurrency: int


async def run(
    chain: Chain, rpc_url: str, plan: Plan, directory: Path, report: Report, progress: Callable[[str], None]
) -> None:
    """Measure, and add the results to the report.

    Args:
        chain: a chain that mines on demand.
        rpc_url: its URL.
        plan: the sizes.
        directory: where runs and libraries go.
        report: gets the results.
        progress: gets a line before each step.

    Raises:
        Failed: a run ended without a result.
    """
    progress("creating tasks")
    task_chains = [
        await deploy_with_tasks(chain, rpc_url, tasks, _TASKS_PER_BLOCK, _no_progress)
        for tasks in (plan.tasks, plan.naive_tasks)
    ]
    await asyncio.to_thread(_compare, task_chains, plan, directory, report, progress)


def _compare(
    task_chains: list[TaskChain], plan: Plan, directory: Path, report: Report, progress: Callable[[str], None]
) -> None:
    ours, naive = (
        RunSpec(side, task_chain, "")
        for side, task_chain in zip(("ours burst", "naive burst"), task_chains, strict=True)
    )
    with instant_api(ours.username, ours.password) as url:
        ours, naive = replace(ours, api_url=url), replace(naive, api_url=url)
        default = replace(ours, side="ours burst, default concurrency", concurrency=_DEFAULT_CONCURRENCY)
        specs = [replace(ours, concurrency=plan.concurrency), default, naive]

        def measure(name: str, environment: Mapping[str, str], aim: float) -> None:
            results = alternate(specs, plan.repeats, environment, directory, lambda line: progress(f"{name}: {line}"))
            report.comparisons.append(Comparison(name, results, naive.side, aim, ours.side))

        measure("burst, fsync as is", {}, _AIM)
        try:
            slow = shim.environment(shim.build(directory), plan.slow_fsync_ms)
        except shim.NoShim as error:
            report.skipped.append(f"burst with a slow fsync: {error}")
            return
        measure(f"burst, each fsync {plan.slow_fsync_ms:g} ms longer", slow, _AIM_SLOW)


def _no_progress(_count: int) -> None:
    """Show nothing: a few transactions take no time."""
