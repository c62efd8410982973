"""The naive side: the script a team writes first, in one file, sequential, with the usual libraries.

It uses web3's `events.get_logs`, a commit per step, and a synchronous HTTP client. It gets advantages: SQLite in WAL
mode as ours, plain INSERTs and no ORM, an HTTP connection that is kept alive; no retries, no reading of the chain
before a POST, no handling of reorgs.
"""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from bench.run_spec import Measured, RunSpec, measuring
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


def ingest(spec: RunSpec) -> Measured:
    """Store every event, range by range, with one commit per task."""
    contract, db = _contract(spec), _database(spec)
    head = contract.w3.eth.block_number  # Outside of the measurement: no side pays for its first connection.
    with measuring(spec.task_chain.tasks) as measured:
        for event in _events(contract, spec, head):
            _store(db, event)
    _verify(db, spec, "seen")
    return measured


def burst(spec: RunSpec) -> Measured:
    """For each event: store it, run the hook, store `sending`, POST, store the outcome."""
    import httpx

    contract, db = _contract(spec), _database(spec)
    head = contract.w3.eth.block_number
    with httpx.Client(auth=(spec.username, spec.password), timeout=60) as client:
        with measuring(spec.task_chain.tasks) as measured:
            for event in _events(contract, spec, head):
                _answer(db, client, spec, event)
        _verify(db, spec, "accepted")
        return measured


def _answer(db: sqlite3.Connection, client: Any, spec: RunSpec, event: Any) -> None:
    _store(db, event)
    index, fields = event["args"]["taskIndex"], event["args"]["task"]
    response = respond(_task(spec, event))
    _update(db, index, "state = 'sending', response = ?", response)
    params = {
        "method": "respondToTask",
        "task_created_block": fields["taskCreatedBlock"],
        "message": "0x" + fields["message"].hex(),
        "task_index": index,
        "resp_message": "0x" + response.hex(),
    }
    body = {"jsonrpc": "2.0", "id": index, "method": "operator_createSigTaskResponse", "params": [params]}
    reply = client.post(spec.api_url, json=body)
    reply.raise_for_status()
    _update(db, index, "state = 'accepted', answer = ?", json.dumps(reply.json()["result"]))


def _contract(spec: RunSpec) -> Any:
    from web3 import HTTPProvider, Web3

    w3 = Web3(HTTPProvider(spec.task_chain.rpc_url, request_kwargs={"timeout": 60}))
    return w3.eth.contract(address=Web3.to_checksum_address(spec.task_chain.task_manager), abi=artifact()["abi"])


def _events(contract: Any, spec: RunSpec, head: int) -> Iterator[Any]:
    for first in range(spec.task_chain.start_block, head + 1, spec.span_blocks):
        last = min(head, first + spec.span_blocks - 1)
        yield from contract.events.NewTaskCreated().get_logs(from_block=first, to_block=last)


def _database(spec: RunSpec) -> sqlite3.Connection:
    db = sqlite3.connect(spec.folder / "naive.db")
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


def _task(spec: RunSpec, event: Any) -> Task:
    fields = event["args"]["task"]
    return Task(
        chain_id=spec.task_chain.chain_id,
        task_manager=bytes.fromhex(spec.task_chain.task_manager[2:]),
        task_index=event["args"]["taskIndex"],
        task_hash=b"",
        created_block=fields["taskCreatedBlock"],
        message=fields["message"],
        quorum_numbers=fields["quorumNumbers"],
        quorum_threshold=fields["quorumThresholdPercentage"],
        deadline_block=None,
        seen_at=Sighting(event["blockNumber"], bytes(event["blockHash"]), bytes(event["transactionHash"]), 0),
    )


def _verify(db: sqlite3.Connection, spec: RunSpec, state: str) -> None:
    (count,) = db.execute("SELECT count(*) FROM tasks WHERE state = ?", (state,)).fetchone()
    if count != spec.task_chain.tasks:
        raise RuntimeError(f"the naive side has {count} of {spec.task_chain.tasks} tasks in state {state}")
