"""`watcher prove`: completeness and outcomes, at one block."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import typer
from loguru import logger

from watcher.cli.options import DEFAULT_CONFIG, Config, Json, ledger, load, print_json
from watcher.cli.proof_table import print_proof
from watcher.clock import Clock
from watcher.errors import FixConfiguration, RetryElsewhere, TryLater
from watcher.ledger import known_sources, queries
from watcher.ledger.reader import Read
from watcher.report.comparison import Comparison
from watcher.report.proof import Proof
from watcher.report.prove import Prover
from watcher.report.second_reading import read_again
from watcher.settings.model import Settings
from watcher.text import to_hex

if TYPE_CHECKING:
    from rich.progress import Progress

if TYPE_CHECKING:
    from watcher.chain.contract import TaskManager
    from watcher.chain.rpc.nodes import NodePool

# The proof of a long ledger asks thousands of questions: a node that is slow for a moment must not cost all of it.
_RETRY_AFTER_S = (1.0, 3.0)


def prove(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Compare every task of the ledger with the contract and with its logs. Exits 1 on a hole or a difference.

    Tells apart: is the ledger complete, what was answered and by whom, what was missed, and what is not yet answered.
    """
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
        TryLater: the ledger has read no block yet, or the chain has changed meanwhile.
    """
    from watcher.chain.convention.web3_reader import Web3Reader
    from watcher.chain.past_logs import PastLogs
    from watcher.clock import SystemClock
    from watcher.daemon import parts

    comparing = bar.add_task("comparing", total=None)
    reading = bar.add_task("reading logs", total=None)
    with ledger(settings) as (reader, source_id):
        # What lies between the two blocks would be proven by neither.
        start_block = (await reader.read(queries.cursor, source_id)).start_block
        begun = known_sources.Beginning(start_block, None)
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
            logs = PastLogs(contract, nodes, settings.chain.chain_id, settings.chain.max_span_blocks)
            await Comparison(proof, reader.read, source_id, logs, start_block).run(
                lambda done, total: bar.update(reading, completed=done, total=total)
            )
            if proof.differences_found:
                await _check_block(proof, contract)
            return proof
        finally:
            await nodes.close()


async def _check_block(proof: Proof, contract: "TaskManager") -> None:
    """Raise TryLater if the chain has replaced the block of the proof: its later logs are no evidence then."""
    at = await contract.header(proof.block_number)
    if at is None or to_hex(at.hash) != proof.block_hash:
        raise TryLater(f"the chain has changed at block {proof.block_number} meanwhile; prove again")


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
