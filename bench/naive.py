"""The other side: what a team writes first, in one file, sequential, with the usual libraries.

web3's `events.get_logs` for the events, a commit per step, a synchronous HTTP client. Kinder to it than real life:
SQLite runs in WAL mode like ours, with a plain INSERT and no ORM; the HTTP connection is kept alive; there is no
retry, no look at the chain before sending, no reorg handling.
"""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from bench.order import Measured, Order, measuring
from bench.trivial import respond
from watcher.devnet.contract import artifact
from watcher.task import Sighting, Task

_SCHEMA = """
CREATE TABLE tasks (
    task_index INTEGER PRIMARY KEY, created_block INTEGER, message BLOB, quorum_numbers BLOB, threshold INTEGER,
    block_number INTEGER, block_hash BLOB, tx_hash BLOB, state TEXT, response BLOB, answer TEXT
)
"""
_INSERT = "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'seen', NULL, NULL)"


def ingest(order: Order) -> Measured:
    """Every event into the database, range by range, one commit per task."""
    contract, db = _contract(order), _database(order)
    head = contract.w3.eth.block_number  # outside the measurement: neither side pays for its first connection
    with measuring(order.ground.tasks) as measured:
        for event in _events(contract, order, head):
            _store(db, event)
    _verify(db, order, "seen")
    return measured


def burst(order: Order) -> Measured:
    """For each event: store it, run the hook, note that it is being sent, POST, note the outcome."""
    import httpx

    contract, db = _contract(order), _database(order)
    head = contract.w3.eth.block_number
    with httpx.Client(auth=(order.username, order.password), timeout=60) as client:
        with measuring(order.ground.tasks) as measured:
            for event in _events(contract, order, head):
                _answer(db, client, order, event)
        _verify(db, order, "accepted")
        return measured


def _answer(db: sqlite3.Connection, client: Any, order: Order, event: Any) -> None:
    _store(db, event)
    index, asked = event["args"]["taskIndex"], event["args"]["task"]
    response = respond(_task(order, event))
    _update(db, index, "state = 'sending', response = ?", response)
    params = {
        "method": "respondToTask",
        "task_created_block": asked["taskCreatedBlock"],
        "message": "0x" + asked["message"].hex(),
        "task_index": index,
        "resp_message": "0x" + response.hex(),
    }
    body = {"jsonrpc": "2.0", "id": index, "method": "operator_createSigTaskResponse", "params": [params]}
    answer = client.post(order.api_url, json=body)
    answer.raise_for_status()
    _update(db, index, "state = 'accepted', answer = ?", json.dumps(answer.json()["result"]))


def _contract(order: Order) -> Any:
    from web3 import HTTPProvider, Web3

    w3 = Web3(HTTPProvider(order.ground.rpc_url, request_kwargs={"timeout": 60}))
    return w3.eth.contract(address=Web3.to_checksum_address(order.ground.task_manager), abi=artifact()["abi"])


def _events(contract: Any, order: Order, head: int) -> Iterator[Any]:
    for first in range(order.ground.start_block, head + 1, order.span_blocks):
        last = min(head, first + order.span_blocks - 1)
        yield from contract.events.NewTaskCreated().get_logs(from_block=first, to_block=last)


def _database(order: Order) -> sqlite3.Connection:
    db = sqlite3.connect(order.folder / "naive.db")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(_SCHEMA)
    db.commit()
    return db


def _store(db: sqlite3.Connection, event: Any) -> None:
    args = event["args"]
    task = args["task"]
    row = (
        args["taskIndex"],
        task["taskCreatedBlock"],
        task["message"],
        task["quorumNumbers"],
        task["quorumThresholdPercentage"],
        event["blockNumber"],
        bytes(event["blockHash"]),
        bytes(event["transactionHash"]),
    )
    db.execute(_INSERT, row)
    db.commit()


def _update(db: sqlite3.Connection, index: int, assignment: str, value: object) -> None:
    db.execute(f"UPDATE tasks SET {assignment} WHERE task_index = ?", (value, index))
    db.commit()


def _task(order: Order, event: Any) -> Task:
    asked = event["args"]["task"]
    return Task(
        chain_id=order.ground.chain_id,
        task_manager=bytes.fromhex(order.ground.task_manager[2:]),
        task_index=event["args"]["taskIndex"],
        task_hash=b"",
        created_block=asked["taskCreatedBlock"],
        message=asked["message"],
        quorum_numbers=asked["quorumNumbers"],
        quorum_threshold=asked["quorumThresholdPercentage"],
        deadline_block=None,
        seen_at=Sighting(event["blockNumber"], bytes(event["blockHash"]), bytes(event["transactionHash"]), 0),
    )


def _verify(db: sqlite3.Connection, order: Order, state: str) -> None:
    (count,) = db.execute("SELECT count(*) FROM tasks WHERE state = ?", (state,)).fetchone()
    if count != order.ground.tasks:
        raise RuntimeError(f"the naive side has {count} of {order.ground.tasks} tasks in state {state}")
