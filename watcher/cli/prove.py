"""`watcher prove`: completeness and outcomes, at one block."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import typer
from loguru import logger

from watcher.cli.options import DEFAULT_CONFIG, Config, Json, ledger, load, print_json
from watcher.clock import Clock
from watcher.errors import FixConfiguration, RetryElsewhere
from watcher.ledger import queries
from watcher.ledger.store import Read
from watcher.report.prove import Proof, Prover
from watcher.report.second_reading import read_again
from watcher.settings.model import Settings

if TYPE_CHECKING:
    from rich.progress import Progress

if TYPE_CHECKING:
    from watcher.chain.contract import TaskManager
    from watcher.chain.rpc.nodes import NodePool

_INDICES_LISTED = 20
# The proof of a long ledger asks thousands of questions: a node that is slow for a moment must not cost all of it.
_RETRY_AFTER_S = (1.0, 3.0)


def prove(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Compare every task of the ledger with the contract. Exits 1 on a hole or a mismatch."""
    from rich.progress import Progress

    from watcher.cli.console import PlainConsole

    settings = load(config, reading_only=True)
    with Progress(console=PlainConsole(to_stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        proof = asyncio.run(prove_now(settings, bar))
    if as_json:
        print_json(proof.as_json())
    else:
        print_proof(proof)
    if not proof.ok:
        raise typer.Exit(1)


async def prove_now(settings: Settings, bar: "Progress") -> Proof:
    """Return the proof of the ledger of these settings; `bar` shows its progress.

    Raises:
        FixConfiguration: the ledger begins at another block than the settings.
        RetryElsewhere: the nodes gave no usable reply, again and again.
    """
    from watcher.chain.convention.web3_reader import Web3Reader
    from watcher.clock import SystemClock
    from watcher.daemon import parts

    comparing = bar.add_task("comparing", total=None)
    with ledger(settings) as (reader, source_id):
        # What lies between the two blocks would be proven by neither.
        begun = queries.Beginning((await reader.read(queries.cursor, source_id)).start_block, None)
        if (problem := begun.mismatch(settings.task_manager.start_block)) is not None:
            raise FixConfiguration(problem)
        clock = SystemClock()
        nodes = parts.node_pool(settings.chain, clock)
        contract = parts.task_manager(
            settings.task_manager, nodes, settings.chain.max_span_blocks, answers=settings.operator.api != "none"
        )
        try:

            async def attempt() -> Proof:
                prover = await _prover(settings, contract, nodes, clock, reader.read, source_id)
                return await prover.prove(lambda done, total: bar.update(comparing, completed=done, total=total))

            proof = await retried(attempt, clock)
            await read_again(proof, reader.read, source_id, Web3Reader(contract.convention.created).agrees)
            return proof
        finally:
            await nodes.close()


async def retried(prove: Callable[[], Awaitable[Proof]], clock: Clock) -> Proof:
    """Return what `prove` returns; try it again, three times in all, while it raises RetryElsewhere."""
    for rest_s in _RETRY_AFTER_S:
        try:
            return await prove()
        except RetryElsewhere as error:
            logger.warning(
                "rpc.proof_retried: a node gave no answer; the proof begins again", reason=str(error), rest_s=rest_s
            )
            await clock.sleep(rest_s)
    return await prove()


async def _prover(
    settings: Settings, contract: "TaskManager", nodes: "NodePool", clock: Clock, read: Read, source_id: int
) -> Prover:
    from watcher.chain.numbering import contradiction, settle

    numbering = await settle(nodes, clock, settings.chain.contract_blocks)
    return Prover(
        contract,
        read,
        source_id,
        settings.chain.chain_id,
        contract.address,
        lambda task: contradiction(task, numbering),
    )


def print_proof(proof: Proof) -> None:
    """Print the proof as a table."""
    from rich.table import Table

    from watcher.cli.console import PlainConsole

    table = Table(show_header=False, title="proof")
    table.add_row("task manager", f"{proof.task_manager} on chain {proof.chain_id}")
    table.add_row("block", f"{proof.block_number} {proof.block_hash}")
    table.add_row("tasks on the chain", _range(proof.first_index, proof.latest_task_num))
    table.add_row("known", str(proof.known))
    table.add_row("answered by us", str(proof.answered_by_us))
    for name in ("answered_otherwise", "expired", "open", "missing", "mismatched"):
        table.add_row(name.replace("_", " "), _list(getattr(proof, name)))
    table.add_row("read by web3, too", _readings(proof))
    if proof.unproven:
        table.add_row("not shown by the contract", f"{', '.join(proof.unproven)}: only the logs show them")
    table.add_row("proven", "yes" if proof.ok else "NO")
    PlainConsole().print(table)


def _range(first: int, count: int | None) -> str:
    if count is None:
        return "the contract does not count them"
    return f"{first} to {count - 1}" if count > first else "none"


def _readings(proof: Proof) -> str:
    if not proof.read_twice:
        return "none: web3 reads no log of this event" if proof.known else "none"
    if proof.read_differently:
        return f"other values in {_list(proof.read_differently)}"
    return f"{proof.read_twice} logs, with the same values"


def _list(indices: Sequence[int]) -> str:
    if not indices:
        return "none"
    listed = ", ".join(map(str, indices[:_INDICES_LISTED]))
    return f"{len(indices)}: {listed}" + (" …" if len(indices) > _INDICES_LISTED else "")
