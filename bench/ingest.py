"""Ingest: from an empty ledger to all tasks of a chain written down, ours against web3 with a commit per task."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.ground import lay
from bench.order import Order
from bench.report import Comparison, Report
from bench.rounds import alternate
from watcher.devnet.chain import Chain

_AIM = 15.0
_TASKS_PER_BLOCK = 20
# So that a page holds some thousand logs, as the limits of hosted nodes have it.
_SPAN_BLOCKS = 100
_SIDES = ("ours ingest", "ours ingest, eth-abi", "naive ingest")
_PARTS = ("ours parts", "ours parts, eth-abi")


@dataclass(frozen=True, slots=True)
class Plan:
    """How many tasks, and how often each side runs."""

    tasks: int
    repeats: int


async def run(
    chain: Chain, rpc_url: str, plan: Plan, directory: Path, report: Report, progress: Callable[[str], None]
) -> None:
    """Measure and add to the report. Raises Failed."""

    def made(count: int) -> None:
        if count % 1000 == 0:
            progress(f"making tasks: {count:,} of {plan.tasks:,}")

    ground = await lay(chain, rpc_url, plan.tasks, _TASKS_PER_BLOCK, made)
    orders = [Order(side, ground, "", span_blocks=_SPAN_BLOCKS) for side in (*_SIDES, *_PARTS)]
    results = await asyncio.to_thread(alternate, orders, plan.repeats, {}, directory, progress)
    sides = {side: results[side] for side in _SIDES}
    name = "ingest: chain to ledger"
    report.comparisons.append(Comparison(name, sides, "naive ingest", _AIM, "ours ingest"))
    report.parts.update({side: results[side] for side in _PARTS})
