"""Burst: many tasks present at once, until the last outcome is committed; as is, and with slow fsyncs."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench import shim
from bench.ground import lay
from bench.order import Ground, Order
from bench.report import Comparison, Report
from bench.rounds import alternate
from bench.server import instant_api
from watcher.devnet.chain import Chain
from watcher.settings.operator import Operator

_AIM, _AIM_SLOW = 3.0, 30.0
_TASKS_PER_BLOCK = 500
_DEFAULT_CONCURRENCY: int = Operator.model_fields["concurrency"].default


@dataclass(frozen=True, slots=True)
class Plan:
    """How many tasks on each side, how often, how slow a slow fsync is, and how many POSTs of ours fly at once."""

    tasks: int
    naive_tasks: int
    repeats: int
    slow_fsync_ms: float
    concurrency: int


async def run(
    chain: Chain, rpc_url: str, plan: Plan, directory: Path, report: Report, progress: Callable[[str], None]
) -> None:
    """Measure and add to the report. Raises Failed."""
    progress("making tasks")
    grounds = [await lay(chain, rpc_url, tasks, _TASKS_PER_BLOCK, _quietly) for tasks in (plan.tasks, plan.naive_tasks)]
    await asyncio.to_thread(_compare, grounds, plan, directory, report, progress)


def _compare(
    grounds: list[Ground], plan: Plan, directory: Path, report: Report, progress: Callable[[str], None]
) -> None:
    ours, naive = (Order(side, ground, "") for side, ground in zip(("ours burst", "naive burst"), grounds, strict=True))
    with instant_api(ours.username, ours.password) as url:
        ours, naive = replace(ours, api_url=url), replace(naive, api_url=url)
        default = replace(ours, side="ours burst, default concurrency", concurrency=_DEFAULT_CONCURRENCY)
        orders = [replace(ours, concurrency=plan.concurrency), default, naive]

        def measure(name: str, environment: Mapping[str, str], aim: float) -> None:
            results = alternate(
                orders, plan.repeats, environment, directory, lambda words: progress(f"{name}: {words}")
            )
            report.comparisons.append(Comparison(name, results, naive.side, aim, ours.side))

        measure("burst, fsync as is", {}, _AIM)
        try:
            slow = shim.environment(shim.build(directory), plan.slow_fsync_ms)
        except shim.NoShim as reason:
            report.skipped.append(f"burst with a slow fsync: {reason}")
            return
        measure(f"burst, each fsync {plan.slow_fsync_ms:g} ms longer", slow, _AIM_SLOW)


def _quietly(_count: int) -> None:
    """A few transactions need no progress."""
