"""The end of tasks past their deadline: expired, or never held by the contract.

Invariant: a task expires only when the contract's zero is proven (`AbsenceRule`) and no canonical response event names
the task.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from loguru import logger

from watcher.chain.absence import AbsenceRule
from watcher.chain.contract import TaskManager
from watcher.chain.dry_run import DryRun
from watcher.chain.numbering import last_block
from watcher.chain.rpc.nodes import NodePool
from watcher.errors import Quarantine, RetryElsewhere
from watcher.ledger import absences, outcomes
from watcher.ledger.store import Ledger
from watcher.task import Absent, Header, OpenTask, Responded, Sighting, Task

# Of many tasks that expire at once a few show what is wrong with all.
_EXPLAINED = 20
# So many of those that expire together have a line each; a chain read from far back may hold thousands.
_LOGGED = 20
# Blocks read again at once for events the contract disowns.
_BLOCKS_READ = 20
# 9999-12-31 23:59:59 UTC, the last second a date can show; contracts name later ones.
_LAST_TIME_S = 253_402_300_799


class Expiry:
    """Ends tasks. `dry_run` finds out what the contract has against a response that never came."""

    def __init__(
        self,
        nodes: NodePool,
        contract: TaskManager,
        ledger: Ledger,
        absence: AbsenceRule,
        dry_run: DryRun | None = None,
    ) -> None:
        self._nodes = nodes
        self._contract = contract
        self._ledger = ledger
        self._absence = absence
        self._dry_run = dry_run

    async def unanswered(self, held: Sequence[OpenTask], at: Header) -> None:
        """Expire the tasks whose deadline is past at finality and of which the contract holds no response at `at`.

        Raises RetryElsewhere when no endpoint shows the block of an event that says otherwise.
        """
        proven = await self._absence.proven(held, Absent.RESPONSE, at)
        if not proven:
            return
        events = await self._events_of(proven)
        late = [task for task in proven if task.task.task_index not in events]
        named = [task for task in proven if task.task.task_index in events]
        before = await self._ledger.write(outcomes.expired, late)
        _log_missed([task for task in late if task.row_id not in before])
        await self._explain(late, at)
        if named:
            # Put off first, whatever the endpoints show of the events: others are due.
            words = "the contract holds no response, and a response event is in the logs"
            await self._ledger.write(outcomes.look_again, named, at.number + 1, words)
            await self._verify(events)

    async def not_held(self, held: Sequence[OpenTask], at: Header, *, empty: bool) -> None:
        """Set aside the tasks in final blocks that the contract does not hold at `at`: another one, or none (`empty`).

        Those that were only seen are quarantined, the others orphaned.
        """
        gone = await self._absence.proven(held, Absent.TASK, at) if empty else held
        for task in gone:
            what = "no task" if empty else "another task"
            logger.bind(task=task.task.task_index).error("the contract holds {} at this index; set aside", what)
        await self._ledger.write(outcomes.never_there, gone, at, empty=empty)

    async def _events_of(self, held: Sequence[OpenTask]) -> Mapping[int, list[Responded]]:
        """The response events in the ledger per task index, of those that have any that is not older than the task."""
        if not self._contract.proves_answers:
            return {}  # the verdict rests on the events already
        indices = [task.task.task_index for task in held]
        events = await self._ledger.read(absences.responses_to, self._ledger.source_id, indices)
        found: dict[int, list[Responded]] = {}
        for task in held:
            index, seen = task.task.task_index, _place(task.task.seen_at)
            if since := [event for event in events.get(index, ()) if _place(event.seen_at) >= seen]:
                found[index] = since
        return found

    async def _verify(self, named: Mapping[int, list[Responded]]) -> None:
        """Read the blocks of the events again. An event that its block does not show was invented, and is withdrawn."""
        events = [event for of_task in named.values() for event in of_task]
        blocks = sorted({event.seen_at.block_number for event in events})[:_BLOCKS_READ]
        shown = {number: set(map(_content, await self._responses_in(number))) for number in blocks}
        false = [
            event
            for event in events
            if event.seen_at.block_number in shown and _content(event) not in shown[event.seen_at.block_number]
        ]
        if false:
            indices = sorted({event.task_index for event in false})
            logger.warning("{} response events are in no block and were withdrawn: tasks {}", len(false), indices[:20])
            await self._ledger.write(absences.withdraw, self._ledger.source_id, false)

    async def _responses_in(self, block: int) -> list[Responded]:
        convention = self._contract.convention
        page = await self._nodes.second_page(self._contract.address, convention.topics0, block, block, None)
        found: list[Responded] = []
        for log in page.logs:
            if self._contract.shows_answer(log):
                try:
                    found.append(convention.decode_response(log))
                except Quarantine:
                    continue
        return found

    async def _explain(self, late: Sequence[OpenTask], head: Header) -> None:
        """Record why no response came, as far as the contract can tell, at the last block that could have brought it.

        The tasks have ended already. Where the nodes do not keep that state any more, nothing is recorded.
        """
        answered = [task for task in late if task.response is not None and task.task.deadline_block is not None]
        if self._dry_run is None or not answered:
            return
        deadline_block = answered[0].task.deadline_block
        assert deadline_block is not None, "those without a deadline do not expire"
        alike = [task for task in answered if task.task.deadline_block == deadline_block][:_EXPLAINED]
        try:
            low_block = min(task.task.seen_at.block_number for task in alike)
            at = await last_block(self._nodes, deadline_block, low_block, head)
            reasons = [] if at is None else await self._dry_run.explain(alike, at)
        except RetryElsewhere:
            return
        found = {task.row_id: reason for task, reason in zip(alike, reasons, strict=False) if reason}
        if found:
            await self._ledger.write(outcomes.explained, found)


def _place(seen: Sighting) -> tuple[int, int]:
    return seen.block_number, seen.log_index


def _log_missed(late: Sequence[OpenTask]) -> None:
    for task in late[:_LOGGED]:
        logger.bind(task=task.task.task_index).error(
            "missed: {}, its deadline, is past at finality, and the contract holds no response", _deadline(task.task)
        )
    if len(late) > _LOGGED:
        logger.error("{} more tasks were missed; see `watcher tasks list --state expired`", len(late) - _LOGGED)


def _deadline(task: Task) -> str:
    """The deadline as the contract says it: a block, or a time where it says one."""
    if task.deadline_s is None:
        return f"block {task.deadline_block}"
    return datetime.fromtimestamp(min(task.deadline_s, _LAST_TIME_S), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _content(event: Responded) -> tuple[bytes, bytes, int, bytes]:
    """What an event is known by at every node: some count logIndex within the block, others within the transaction."""
    return event.seen_at.block_hash, event.seen_at.tx_hash, event.task_index, event.response_hash
