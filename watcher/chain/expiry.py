"""The end of tasks past their deadline: expired, or never held by the contract.

Invariant: a task expires only when the contract's zero is proven (`AbsenceRule`) and no canonical response event names
the task.
"""

from collections.abc import Mapping, Sequence

from loguru import logger

from watcher.chain.absence import AbsenceRule
from watcher.chain.dry_run import DryRun
from watcher.chain.numbering import last_block
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.source import Source
from watcher.chain.task_lines import TaskLines, fields, summary
from watcher.errors import Quarantine, RetryElsewhere
from watcher.ledger import absences, outcomes
from watcher.task import Absent, Header, OpenTask, Responded, Sighting
from watcher.text import shorten_list

# Of many tasks that expire at once, so many are tried again to find the contract's reason.
_EXPLAINED = 20
# Blocks read again at once for events that the contract contradicts.
_BLOCKS_READ = 20
_INDICES_LOGGED = 20


class Expiry:
    """The end of tasks. `dry_run` finds the contract's reason against a response that never came."""

    def __init__(self, source: Source, absence: AbsenceRule, dry_run: DryRun | None = None) -> None:
        self._nodes = source.nodes
        self._contract = source.contract
        self._ledger = source.ledger
        self._absence = absence
        self._dry_run = dry_run
        self._missed, self._set_aside = TaskLines(source.clock), TaskLines(source.clock)

    async def unanswered(self, tasks: Sequence[OpenTask], at: Header) -> None:
        """Expire the tasks whose deadline is past at finality and of which the contract holds no response at `at`.

        Raises:
            RetryElsewhere: no endpoint shows the block of a response event that contradicts the contract.
        """
        proven = await self._absence.proven(tasks, Absent.RESPONSE, at)
        if not proven:
            return
        events = await self._events_of(proven)
        late = [task for task in proven if task.task.task_index not in events]
        named = [task for task in proven if task.task.task_index in events]
        self._log_missed(await self._ledger.write(outcomes.expired, late))
        await self._explain(late, at)
        if named:
            # Postponed before the events are read again, whatever comes of that: other tasks are due.
            reason = "the contract holds no response, and a response event is in the logs"
            await self._ledger.write(outcomes.look_again, named, at.number + 1, reason)
            await self._verify(events)

    async def not_held(self, tasks: Sequence[OpenTask], at: Header, *, empty: bool) -> None:
        """Set aside tasks that the contract does not hold: those in state seen are quarantined, the others orphaned.

        Args:
            tasks: tasks in final blocks.
            at: the block of the reading.
            empty: the contract holds no task at the index; otherwise it holds another task.
        """
        gone = await self._absence.proven(tasks, Absent.TASK, at) if empty else tasks
        logged, more = self._set_aside.split(gone)
        for task in logged:
            logger.error(
                "task.not_held: the contract does not hold this task; it is set aside",
                **fields(task.task),
                holds="no task" if empty else "another task",
                block=at.number,
            )
        if more:
            logger.error(
                "task.not_held_more: the contract does not hold these tasks; they are set aside",
                **summary([task.task for task in more]),
            )
        await self._ledger.write(outcomes.never_there, gone, at, empty=empty)

    async def _events_of(self, tasks: Sequence[OpenTask]) -> Mapping[int, list[Responded]]:
        """Return the response events in the ledger that do not precede their task, by task index."""
        if not self._contract.proves_answers:
            return {}  # the verdict rests on the events already
        indices = [task.task.task_index for task in tasks]
        known = await self._ledger.read(absences.responses_to, self._ledger.source_id, indices)
        events: dict[int, list[Responded]] = {}
        for task in tasks:
            index, seen = task.task.task_index, _position(task.task.seen_at)
            if since := [event for event in known.get(index, ()) if _position(event.seen_at) >= seen]:
                events[index] = since
        return events

    async def _verify(self, named: Mapping[int, list[Responded]]) -> None:
        """Read the blocks of the events again, and withdraw the events that their blocks do not show."""
        events = [event for of_task in named.values() for event in of_task]
        blocks = sorted({event.seen_at.block_number for event in events})[:_BLOCKS_READ]
        logged = {number: set(map(_content, await self._responses_in(number))) for number in blocks}
        false = [
            event
            for event in events
            if event.seen_at.block_number in logged and _content(event) not in logged[event.seen_at.block_number]
        ]
        if false:
            indices = sorted({event.task_index for event in false})
            logger.warning(
                "response.withdrawn: response events are in no block any more; they are withdrawn",
                events=len(false),
                tasks=shorten_list(indices, _INDICES_LOGGED),
            )
            await self._ledger.write(absences.withdraw, self._ledger.source_id, false)

    async def _responses_in(self, block: int) -> list[Responded]:
        convention = self._contract.convention
        query = LogQuery(self._contract.emitters, convention.topics0, block, block)
        page = await self._nodes.second_page(query)
        responses: list[Responded] = []
        for log in page.logs:
            if self._contract.shows_answer(log):
                try:
                    responses.append(convention.decode_response(log))
                except Quarantine:
                    continue
        return responses

    async def _explain(self, late: Sequence[OpenTask], head: Header) -> None:
        """Record the contract's reason against each response, at the last block that could have brought it.

        The tasks have ended already. Where the nodes do not keep that state any more, nothing is recorded.
        """
        answered = [task for task in late if task.response is not None and task.task.deadline_block is not None]
        if self._dry_run is None or not answered:
            return
        deadline_block = answered[0].task.deadline_block
        assert deadline_block is not None, "tasks without a deadline do not expire"
        sample = [task for task in answered if task.task.deadline_block == deadline_block][:_EXPLAINED]
        try:
            low_block = min(task.task.seen_at.block_number for task in sample)
            at = await last_block(self._nodes, deadline_block, low_block, head)
            reasons = [] if at is None else await self._dry_run.explain(sample, at)
        except RetryElsewhere:
            return
        by_row = {task.row_id: reason for task, reason in zip(sample, reasons, strict=False) if reason}
        if by_row:
            await self._ledger.write(outcomes.explained, by_row)

    def _log_missed(self, missed: Sequence[OpenTask]) -> None:
        logged, more = self._missed.split(missed)
        for task in logged:
            logger.error(
                "task.missed: the deadline is past at finality, and there is no response on the chain",
                **fields(task.task),
                block=task.task.seen_at.block_number,
                tx=task.task.seen_at.tx_hash,
                answered_by=None,
            )
        if more:
            logger.error(
                "task.missed_more: further tasks were missed; see `watcher tasks list --state expired`",
                **summary([task.task for task in more]),
            )


def _position(seen: Sighting) -> tuple[int, int]:
    return seen.block_number, seen.log_index


def _content(event: Responded) -> tuple[bytes, bytes, int, bytes]:
    """Return the identity of an event at every node; logIndex counts within the block or within the transaction."""
    return event.seen_at.block_hash, event.seen_at.tx_hash, event.task_index, event.response_hash
