"""A second reading of the logs in the ledger, by a reader other than the one that filled it."""

from collections.abc import Callable

from watcher.ledger import by_index
from watcher.ledger.reader import Read
from watcher.ledger.rows import task_of
from watcher.report.proof import Proof
from watcher.task import Task

_CHUNK = 500
# Of each chunk, spread evenly: a reading takes half a millisecond.
_READ_OF_CHUNK = 20


async def read_again(proof: Proof, ask: Read, source_id: int, agrees: Callable[[Task], bool | None]) -> None:
    """Compare both readings of a sample of tasks, and record the result in `proof`.

    Args:
        proof: the finished proof of this ledger.
        ask: reads the ledger.
        source_id: the task manager in the ledger.
        agrees: returns whether the second reader finds the same values in a task's log; None where it reads none.
    """
    low = 0
    while indices := sorted(set(await ask(by_index.canonical_from, source_id, low, _CHUNK))):
        for index in indices[:: max(1, len(indices) // _READ_OF_CHUNK)]:
            for row in await ask(by_index.canonical_between, source_id, index, index):
                agreement = agrees(task_of(row))
                proof.read_twice += agreement is not None
                if agreement is False:
                    proof.read_differently.append(index)
        low = indices[-1] + 1
