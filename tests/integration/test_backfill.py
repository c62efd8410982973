"""Block times and senders of a real chain reach the ledger, also from nodes whose logs show no time."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_rig import Answers, Twist
from tests.integration.test_end_states import Rig, final_task, opened
from watcher.chain.backfill import Backfill
from watcher.ledger import queries


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await opened(tmp_path, stack, 1, 1)


def old_node(refused: str = "") -> Twist:
    """A node whose logs show no time, and that refuses one method where it is asked alone."""

    def twist(asked: Answers, answers: Answers) -> Any:
        for place, (request, reply) in enumerate(zip(asked, answers, strict=True)):
            if request["method"] == "eth_getLogs":
                for log in reply["result"]:
                    log.pop("blockTimestamp", None)
            if request["method"] == refused:
                error = {"code": -32601, "message": "no such method"}
                answers[place] = {"jsonrpc": "2.0", "id": request["id"], "error": error}
        return answers

    return twist


async def answer_in_the_past(rig: Rig) -> None:
    """A final task and its final response, read in one range of blocks that ends behind them."""
    created_block = await final_task(rig)
    await rig.respond(0, created_block, b"an answer")
    await rig.net.mine(4)
    await rig.step()
    await rig.later()


async def row_of(rig: Rig) -> Any:
    return (await rig.ledger.read(queries.tasks_at, rig.ledger.source_id, 0))[0]


async def times_of(rig: Rig, row: Any) -> list[int]:
    blocks = [await rig.net.chain.block(number) for number in (row.block_number, row.responded_block)]
    return [int(block["timestamp"], 16) for block in blocks if block is not None]


async def sender_of(rig: Rig, row: Any) -> bytes:
    raw = await rig.net.chain.rpc.call("eth_getTransactionByHash", "0x" + row.responded_tx_hash.hex())
    return bytes.fromhex(raw["from"][2:])


async def test_a_newer_node_shows_the_times_in_its_logs(rig: Rig) -> None:
    await answer_in_the_past(rig)
    row = await row_of(rig)
    assert [row.block_time_s, row.responded_time_s] == await times_of(rig, row)


async def test_an_older_node_is_asked_for_times_and_senders_later(rig: Rig) -> None:
    rig.lie(old_node())
    await answer_in_the_past(rig)
    row = await row_of(rig)
    assert (row.state, row.block_time_s, row.responded_time_s, row.responded_by) == ("final_other", None, None, None)
    backfill = Backfill(rig.source)
    await backfill.run()
    row = await row_of(rig)
    assert [row.block_time_s, row.responded_time_s] == await times_of(rig, row)
    assert row.responded_by == await sender_of(rig, row)
    before = len(rig.relays[0].asked)
    await backfill.run()
    assert len(rig.relays[0].asked) == before, "nothing is left to ask"


async def test_a_refused_question_stops_nothing_and_is_put_again(rig: Rig) -> None:
    rig.lie(old_node("eth_getTransactionByHash"))
    await answer_in_the_past(rig)
    backfill = Backfill(rig.source)
    await backfill.run()
    row = await row_of(rig)
    assert row.block_time_s is not None and row.responded_by is None
    rig.lie()
    await backfill.run()
    assert (await row_of(rig)).responded_by is None, "the method rests"
    rig.clock.ahead_s += 301
    await backfill.run()
    assert (await row_of(rig)).responded_by == await sender_of(rig, row)
