"""The naive side: the script a team writes first, in one file, sequential, with the usual libraries.

`python -m bench.peers.naive SPEC_JSON` prints its measurement as JSON. It uses web3's `events.get_logs`, a commit per
step, and a synchronous HTTP client. It gets advantages: SQLite in WAL mode as ours, plain INSERTs and no ORM, an HTTP
connection that is kept alive; no retries, no reading of the chain before a POST, no handling of reorgs.
"""

import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import shim
from bench.hooks.trivial import respond
from bench.process import cpu_s
from bench.program import PASSWORD
from bench.server import USERNAME
from watcher.devnet.contract import artifact
from watcher.task import Sighting, Task

_SCHEMA = """
CREATE TABLE tasks (
    task_index INTEGER PRIMARY KEY, created_block INTEGER, message BLOB, quorum_numbers BLOB, threshold INTEGER,
    block_number INTEGER, block_hash BLOB, tx_hash BLOB, state TEXT, response BLOB, answer TEXT
)
"""
_INSERT = "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'seen', NULL, NULL)"
_FILE = "naive.db"


@dataclass(frozen=True, slots=True)
class Spec:
    """One run: the chain, and the API to send to ("": store the tasks only).

    It ends `limit_s` seconds after its first event; 0: with its last one.
    """

    rpc_url: str
    chain_id: int
    task_manager: str
    start_block: int
    span_blocks: int
    api_url: str = ""
    limit_s: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Result:
    """Tasks done, and the seconds of time and CPU that they took."""

    tasks: int
    wall_s: float
    cpu_s: float


def run(spec: Spec) -> Result:
    """Store each event; with an API, store it, run the hook, store `sending`, POST, store the outcome."""
    import httpx

    contract, db = _contract(spec), _database()
    head = contract.w3.eth.block_number  # Outside of the measurement: no side pays for its first connection.
    with httpx.Client(auth=(USERNAME, PASSWORD), timeout=60) as client:
        began_s, began_cpu_s = time.monotonic(), cpu_s()
        ends_s = float("inf")
        for number, event in enumerate(_events(contract, spec, head)):
            if number == 0 and spec.limit_s:
                ends_s = time.monotonic() + spec.limit_s
            _store(db, event)
            if spec.api_url:
                _answer(db, client, spec, event)
            if time.monotonic() > ends_s:
                break
        wall_s, spent_cpu_s = time.monotonic() - began_s, cpu_s() - began_cpu_s
    state = "accepted" if spec.api_url else "seen"
    (tasks,) = db.execute("SELECT count(*) FROM tasks WHERE state = ?", (state,)).fetchone()
    return Result(tasks, wall_s, spent_cpu_s)


def _answer(db: sqlite3.Connection, client: Any, spec: Spec, event: Any) -> None:
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


def _contract(spec: Spec) -> Any:
    from web3 import HTTPProvider, Web3

    w3 = Web3(HTTPProvider(spec.rpc_url, request_kwargs={"timeout": 60}))
    return w3.eth.contract(address=Web3.to_checksum_address(spec.task_manager), abi=artifact()["abi"])


def _events(contract: Any, spec: Spec, head: int) -> Iterator[Any]:
    for first in range(spec.start_block, head + 1, spec.span_blocks):
        last = min(head, first + spec.span_blocks - 1)
        yield from contract.events.NewTaskCreated().get_logs(from_block=first, to_block=last)


def _database() -> sqlite3.Connection:
    db = sqlite3.connect(_FILE)
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


def _task(spec: Spec, event: Any) -> Task:
    fields = event["args"]["task"]
    return Task(
        chain_id=spec.chain_id,
        task_manager=bytes.fromhex(spec.task_manager[2:]),
        task_index=event["args"]["taskIndex"],
        task_hash=b"",
        created_block=fields["taskCreatedBlock"],
        message=fields["message"],
        quorum_numbers=fields["quorumNumbers"],
        quorum_threshold=fields["quorumThresholdPercentage"],
        deadline_block=None,
        seen_at=Sighting(event["blockNumber"], bytes(event["blockHash"]), bytes(event["transactionHash"]), 0),
    )


def main() -> None:
    shim.verify(Path.cwd())
    print(json.dumps(asdict(run(Spec(**json.loads(sys.argv[1]))))))


if __name__ == "__main__":
    main()
