"""The comparison of a ledger with the logs of a real node, and with nodes that show less."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_rig import Answers
from tests.integration.test_backfill import answer_in_the_past, old_node, row_of, sender_of
from tests.integration.test_end_states import Rig, opened
from watcher.chain import past_logs
from watcher.chain.past_logs import PastLogs
from watcher.ledger import queries
from watcher.report.comparison import Comparison
from watcher.report.proof import Proof
from watcher.report.prove import Prover


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A final task with the answer of somebody else."""
    async with AsyncExitStack() as stack:
        rig = await opened(tmp_path, stack, 1, 1)
        await answer_in_the_past(rig)
        yield rig


async def compared(rig: Rig, span_blocks: int = 100) -> Proof:
    proof = await Prover(
        rig.contract, rig.ledger.read, rig.ledger.source_id, rig.net.chain_id, rig.contract.address
    ).prove()
    start_block = (await rig.ledger.read(queries.cursor, rig.ledger.source_id)).start_block
    logs = PastLogs(rig.contract, rig.nodes, rig.net.chain_id, span_blocks)
    await Comparison(proof, rig.ledger.read, rig.ledger.source_id, logs, start_block).run()
    return proof


async def test_a_node_shows_places_deadlines_times_and_senders(rig: Rig) -> None:
    for span_blocks in (100, 1):
        proof = await compared(rig, span_blocks)
        assert (proof.ok, proof.compared, proof.unchecked) == (True, 1, [])
        (sender,) = proof.senders
        assert sender.address == "0x" + (await sender_of(rig, await row_of(rig))).hex()
        assert (sender.answered_by_us, sender.answered_otherwise, sender.read) == (0, 1, 1)


async def test_a_node_without_times_and_transactions_fails_no_proof(rig: Rig) -> None:
    rig.lie(old_node("eth_getTransactionByHash"))
    proof = await compared(rig)
    assert (proof.ok, proof.compared) == (True, 1)
    assert [(unchecked.what, unchecked.tasks) for unchecked in proof.unchecked] == [("senders", 1)]


async def test_a_node_without_old_logs_fails_no_proof(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_logs, "_RETRY_AFTER_S", (0.0,))

    def without_logs(asked: Answers, answers: Answers) -> Any:
        for place, request in enumerate(asked):
            if request["method"] == "eth_getLogs":
                error = {"code": -32000, "message": "pruned history unavailable"}
                answers[place] = {"jsonrpc": "2.0", "id": request["id"], "error": error}
        return answers

    rig.lie(without_logs)
    proof = await compared(rig)
    assert (proof.ok, proof.compared) == (True, 0)
    assert "logs" in {unchecked.what for unchecked in proof.unchecked}
