"""What must hold, judged from the chain, the API's journal and the hook's notes against the ledger.

`posted` judges each POST at the moment it arrives; `resolver` judges the whole once everything has come to rest.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from tests.simulation.chain import CHAIN_ID, CONVENTION, MANAGER
from watcher.chain.contract import TaskManager
from watcher.ledger import queries
from watcher.ledger.tables import attempts, events, journal, tasks
from watcher.operator.request import Request
from watcher.report.prove import Prover
from watcher.state import ENDED, GIVEN_UP, LEGAL, State
from watcher.task import Task

if TYPE_CHECKING:
    from tests.simulation.world import World


class Violation(AssertionError):
    """A promise was broken."""


class Oracle:
    """`moves` counts the transitions seen, for the table of what was covered. `observer`: a task asked in peace."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.transitions: Counter[tuple[str, str]] = Counter()
        self.ends: Counter[str] = Counter()
        self.sent: dict[tuple[int, bytes], bytes] = {}
        self.reorgs = 0
        self.caught: list[str] = []
        self.observer: int | None = None

    def _rows(self, *where: Any) -> list[Any]:
        return list(self._world.database.to_read.execute(select(tasks).where(*where).order_by(tasks.c.id)))

    # At each POST.

    def posted(self, request: Request, index: int, created: int, message: bytes, answer: bytes) -> None:
        """Raises Violation, inside a piece of the daemon; it is kept: the daemon may die before it is told."""
        try:
            self._posted(request, index, created, message, answer)
        except Violation as violation:
            self.caught.append(str(violation))
            raise

    def _posted(self, request: Request, index: int, created: int, message: bytes, answer: bytes) -> None:
        world = self._world
        task_hash = world.chain.asked.get((index, created, message))
        _hold(task_hash is not None, f"a POST for a task {index} that no contract ever held")
        assert task_hash is not None
        self._recorded(request, index, task_hash, answer)
        earlier = self.sent.setdefault((index, task_hash), answer)
        _hold(earlier == answer, f"two answers were sent for task {index}: {earlier.hex()} and {answer.hex()}")
        _hold(
            answer in world.hook.answers.get((index, task_hash), ()), f"task {index} was sent an answer of another task"
        )
        self._looked(index, created, task_hash)

    def _recorded(self, request: Request, index: int, task_hash: bytes, answer: bytes) -> None:
        (row,) = self._rows(tasks.c.task_index == index, tasks.c.task_hash == task_hash) or [None]
        _hold(row is not None, f"a POST for task {index}, which the ledger does not know")
        mine = (attempts.c.task_id == row.id, attempts.c.kind == "post", attempts.c.ended_at_ms.is_(None))
        newest = select(attempts).where(*mine).order_by(attempts.c.id.desc())
        attempt: Any = self._world.database.to_read.execute(newest).first()
        _hold(attempt is not None, f"a POST for task {index} without an attempt in the ledger")
        _hold(row.state == State.SENDING, f"a POST for task {index}, which is {row.state} in the ledger")
        _hold(attempt.request_digest == request.digest, f"a POST for task {index} with other bytes than its attempt")
        _hold(attempt.fence == row.fence, f"a POST for task {index} by somebody who has lost the lease")
        _hold(row.response == answer, f"a POST for task {index} whose answer is not the one in the ledger")

    def _looked(self, index: int, created: int, task_hash: bytes) -> None:
        world = self._world
        seen = world.readings.pop(("submit", index), None)
        _hold(seen is not None, f"a POST for task {index} without a look at the chain right before")
        assert seen is not None
        block = seen.block
        stored_hash = block.task_hashes[index] if index < len(block.task_hashes) else None
        _hold(
            stored_hash == task_hash,
            f"a POST for task {index} although the chain held another task in block {block.number}",
        )
        _hold(index not in block.responses, f"a POST for task {index}, which was answered in block {block.number}")
        _hold(
            block.number >= seen.told_head,
            f"a POST for task {index} on the word of a node at block {block.number}; {seen.told_head} was known",
        )
        _hold(block.number < created + world.chain.window_blocks, f"a POST for task {index} after its deadline")
        deep = block.number - (created + world.chain.drift)
        # What a person retries after a skip is not made to wait for confirmations.
        _hold(
            index in world.handled or deep >= world.rules.confirmations,
            f"a POST for task {index} after {deep} confirmations",
        )

    def worked(self, task: Task) -> None:
        """The hook is asked about a task."""
        asked = self._world.chain.asked
        known = asked.get((task.task_index, task.created_block, task.message))
        if known != task.task_hash and task.task_index not in self._world.handled:
            self.caught.append(f"the hook was asked about task {task.task_index}, which no contract ever held")

    # At the end.

    def at_rest(self) -> bool:
        """Every task of the final chain known, and everything in an end state with the last response final."""
        world = self._world
        cursor = queries.cursor(world.database.to_read, world.source_id) if world.commits else None
        rows, chain = self._rows(), world.chain
        if cursor is None or cursor.hash != chain.head.hash or any(row.state not in ENDED for row in rows):
            return False
        known = {(row.task_index, row.task_hash) for row in rows if row.canonical}
        is_final = chain.final.task_hashes == chain.head.task_hashes and chain.final.responses == chain.head.responses
        return known >= set(enumerate(chain.head.task_hashes)) and is_final and not chain.pool

    async def resolver(self) -> None:
        """Raises Violation with all that is wrong."""
        wrongs = [*self._world.database.wrongs(), *self._lost(), *self._ends(), *self._history(), *self._holes()]
        wrongs += await self._proof()
        if wrongs:
            raise Violation("; ".join(wrongs))

    def _lost(self) -> list[str]:
        chain = self._world.chain
        known = {(row.task_index, row.task_hash): row for row in self._rows(tasks.c.canonical)}
        lost = [index for index, hash_ in enumerate(chain.head.task_hashes) if (index, hash_) not in known]
        ghosts = [
            row.task_index
            for key, row in known.items()
            if row.task_hash not in chain.head.task_hashes
            and row.state != State.QUARANTINED
            and not (row.task_hash in self._world.forged and row.task_index in self._world.handled)
        ]
        return [*(f"task {index} was lost" for index in lost), *(f"task {index} is a ghost" for index in ghosts)]

    def _ends(self) -> list[str]:
        wrongs: list[str] = []
        for row in self._rows():
            self.ends[row.state] += 1
            wrong = self._end_of(row)
            if wrong:
                wrongs.append(f"task {row.task_index} ({row.task_hash.hex()[:8]}) is {row.state}, {wrong}")
        return wrongs

    def _end_of(self, row: Any) -> str | None:
        chain, hook = self._world.chain, self._world.hook
        if row.state not in ENDED:
            return "which is no end"
        there = row.task_index < len(chain.head.task_hashes) and chain.head.task_hashes[row.task_index] == row.task_hash
        answer = chain.answer_of(row.task_index) if there else None
        ours = answer is not None and answer == row.response
        due = row.created_block + chain.window_blocks
        unseen = answer is None or row.task_index in self._out_of_sight
        holds = {
            State.FINAL: ours,
            State.FINAL_OTHER: answer is not None and not ours,
            State.EXPIRED: there and answer is None and chain.final_number > due,
            State.ORPHANED: not there,
            State.QUARANTINED: not there,
            State.FAILED: unseen and hook.failures.get((row.task_index, row.task_hash), 0) > 0,
            State.SKIPPED: unseen,
        }[State(row.state)]
        if not holds:
            return f"but the chain has it: {there}, answered with {answer.hex() if answer is not None else None}"
        if row.task_index == self.observer and there and row.state != State.FINAL:
            return "although it was asked in peace and quiet"
        return None

    def _history(self) -> list[str]:
        """The journal is a path of legal moves, and says `responded` only of answers that were on the chain."""
        wrongs: list[str] = []
        at: dict[int, str | None] = {}
        rows = {row.id: row for row in self._rows()}
        for line in self._world.database.to_read.execute(select(journal).order_by(journal.c.id)):
            before = at.get(line.task_id)
            row = rows[line.task_id]
            if line.from_state != before:
                wrongs.append(f"the journal of task {row.task_index} jumps from {before} to {line.from_state}")
            if line.from_state is not None and line.to_state not in LEGAL[State(line.from_state)]:
                wrongs.append(f"task {row.task_index} moved from {line.from_state} to {line.to_state}")
            at[line.task_id] = line.to_state
            self.transitions[line.from_state or "", line.to_state] += 1
            if line.to_state == State.RESPONDED and not self._ever_answered(row):
                wrongs.append(f"task {row.task_index} was called responded, and no block ever held our answer")
        wrongs += [f"task {row.task_index} lies in {row.state}" for row in rows.values() if at[row.id] != row.state]
        return wrongs

    def _ever_answered(self, row: Any) -> bool:
        answered = self._world.chain.answered
        return any(index == row.task_index and answer == row.response for index, answer, _ in answered)

    def _holes(self) -> list[str]:
        """Honest nodes leave nothing to repair, else the cursor ran ahead of its tasks; nor anything to rewind."""
        world = self._world
        kinds = set()
        if not world.withheld and not world.emptied:  # a task that zeros set aside leaves a hole
            kinds.add("holes repaired")
        if not world.withheld and not any(fault.startswith("forged") for fault in world.rules.faults):
            kinds.add("late logs")
        if not self.reorgs:
            kinds.add("rewind")
        rows = world.database.to_read.execute(select(events.c.kind, events.c.words).where(events.c.kind.in_(kinds)))
        return [f"for no reason: {kind} ({message})" for kind, message in rows]

    @property
    def _out_of_sight(self) -> set[int]:
        """Tasks that had ended, and whose late response was withheld again: nobody asks a third and a fourth time."""
        given_up = {row.task_index for row in self._rows(tasks.c.state.in_(GIVEN_UP))}
        return {index for index, times in self._world.hidden.items() if times > 1 and index in given_up}

    async def _proof(self) -> list[str]:
        world = self._world
        daemon = world.daemon
        assert daemon is not None
        contract = TaskManager(daemon.nodes, MANAGER, CONVENTION, 1000)
        proof = await Prover(contract, _asking(world), world.source_id, CHAIN_ID, MANAGER).prove()
        # A person may have skipped a forged task before the chain could tell that it is none.
        skipped = {row.task_index for row in self._rows() if row.task_hash in world.forged} & world.handled
        wrong = bool(proof.missing) or not (self._out_of_sight | skipped).issuperset(proof.mismatched)
        return [] if not wrong else [f"the proof fails: {proof.as_json()}"]


def _asking(world: "World") -> Any:
    async def ask(question: Any, *args: Any, **kwargs: Any) -> Any:
        return question(world.database.to_read, *args, **kwargs)

    return ask


def _hold(holds: bool, message: str) -> None:
    if not holds:
        raise Violation(message)
