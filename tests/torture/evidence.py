"""Everything the oracle may look at: the node itself, the journals of emulator and proxy, and what the daemon left.

Nothing here comes from the program's own code: the ledger is read with sqlite3, logs are decoded by the devnet's codec.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.torture.lines import read_lines
from tests.torture.plan import Plan
from tests.torture.world import ChainTask, Past, World, hexed, replace_block
from watcher.devnet.journal import read_journal
from watcher.operator.request import PROBE_METHOD

COMMAND_TIMEOUT_S = 1_200.0


@dataclass(frozen=True, slots=True)
class Row:
    """A task as the ledger holds it. `posts` counts the attempts to send that were written down."""

    id: int
    index: int
    task_hash: str
    state: str
    canonical: bool
    response: str | None
    posts: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request that reached the API, as it was written down before it was answered."""

    at_ms: int
    index: int
    created_block: int
    message: str
    answer: str

    @property
    def key(self) -> tuple[int, int, str]:
        return self.index, self.created_block, self.message


@dataclass(slots=True)
class Evidence:
    plan: Plan
    past: Past
    tasks: list[ChainTask]  # of the canonical chain
    responses: list[tuple[int, str]]  # of the canonical chain, in order
    requests: list[Request]
    rows: list[Row]
    transitions: Counter[tuple[str | None, str]]
    hook_answers: dict[tuple[int, str], set[str]]  # (index, task hash) -> what the hook answered
    rpc_faults: Counter[str]
    api_faults: Counter[str]
    listed: list[dict[str, Any]] = field(default_factory=list)  # tasks list --json
    proof: dict[str, Any] = field(default_factory=dict)  # prove --json
    proof_code: int = 0
    leaks: list[str] = field(default_factory=list)
    window_blocks: int = 0


async def gather(world: World, plan: Plan) -> Evidence:
    rig = world.rig
    listed = await rig.command("tasks", "list", "--json", timeout_s=COMMAND_TIMEOUT_S)
    proof = await rig.command("prove", "--json", timeout_s=COMMAND_TIMEOUT_S)
    outputs = {"tasks list": listed.out + listed.err, "prove": proof.out + proof.err}
    files = [path for path in rig.folder.glob("*") if path.is_file() and path != rig.config and path.suffix != ".jsonl"]
    outputs |= {file.name: file.read_bytes().decode("latin-1") for file in files}
    return Evidence(
        plan,
        world.past,
        await world.chain_tasks(),
        await world.chain_responses(),
        list(_requests(rig.journal())),
        _rows(rig.ledger),
        _transitions(rig.ledger),
        _hook_answers(rig.hook_folder / "said"),
        Counter(strike["fault"] for strike in read_lines(rig.folder / "rpc-faults.jsonl")),
        Counter(name for entry in read_journal(world.net.journal.path) for name in entry.get("faults", ())),
        json.loads(listed.out or "[]"),
        json.loads(proof.out or "{}"),
        proof.code,
        _leaks(outputs, world.secrets),
        world.net.options.window_blocks,
    )


def _requests(journal: Iterable[dict[str, Any]]) -> Iterable[Request]:
    for request in journal:
        sent = request["what"] == "received" and request.get("authorised") and not request.get("unreadable")
        if sent and request.get("method") != PROBE_METHOD:
            asked = json.loads(request["body"])["params"][0]
            yield Request(
                request["at_ms"],
                int(asked["task_index"]),
                int(asked["task_created_block"]),
                asked["message"].lower(),
                asked["resp_message"].lower(),
            )


def _rows(ledger: Path) -> list[Row]:
    posts = Counter(dict(_query(ledger, "SELECT task_id, count(*) FROM attempts WHERE kind = 'post' GROUP BY task_id")))
    sql = "SELECT id, task_index, task_hash, state, canonical, response FROM tasks ORDER BY id"
    return [
        Row(
            id_, int(index), hexed(hash_), state, bool(canonical), None if answer is None else hexed(answer), posts[id_]
        )
        for id_, index, hash_, state, canonical, answer in _query(ledger, sql)
    ]


def _transitions(ledger: Path) -> Counter[tuple[str | None, str]]:
    sql = "SELECT from_state, to_state, count(*) FROM journal GROUP BY 1, 2"
    return Counter({(before, after): count for before, after, count in _query(ledger, sql)})


def _query(ledger: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=60)) as connection:
        return connection.execute(sql).fetchall()


def _hook_answers(notes: Path) -> dict[tuple[int, str], set[str]]:
    answers: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
    for line in notes.read_text().splitlines() if notes.exists() else []:
        parts = line.split()
        if len(parts) == 3:  # a hook killed while it wrote leaves less, and was not heard either
            answers[int(parts[0]), "0x" + parts[1]].add("0x" + parts[2])
    return dict(answers)


def _leaks(outputs: dict[str, str], secrets: Iterable[str]) -> list[str]:
    return [
        f"a secret stands in {name}, at character {at}"
        for name, output in outputs.items()
        for secret in secrets
        if (at := output.find(secret)) >= 0
    ]


def ever_on_chain(evidence: Evidence) -> dict[tuple[int, int, str], tuple[ChainTask, int | None]]:
    """By what a request names: the task, and when it was last taken off the chain (None: it is there to the end)."""
    tasks = {task.key: (task, died_ms) for task, died_ms in evidence.past.died_ms.items()}
    return tasks | {task.key: (replace_block(task), None) for task in evidence.tasks}
