"""Check of the convention: does the contract emit its events? A wrong signature is silent otherwise: no task, no error.

Invariant: a red line rests on the contract's own count and hashes, against logs that were really read.
"""

import asyncio
from collections.abc import Sequence

from watcher.chain.contract import TaskManager
from watcher.chain.rpc.replies import Log
from watcher.doctor.finding import Notes
from watcher.doctor.log_search import Search, Stretch
from watcher.doctor.newest_task import check_answer, check_count, check_readers, check_task, check_values
from watcher.doctor.signatures import closest_signature, describe_topics, event_name, event_text, presets_by_topic
from watcher.doctor.subject import Subject
from watcher.task import Task


async def check_convention(subject: Subject, count: int | None, window_blocks: int | None, notes: Notes) -> Task | None:
    """Add findings on the events of the convention, and on the newest task. Return that task, None if there is none.

    Args:
        subject: the contract.
        count: the next index at the head, None where the contract does not count its tasks.
        window_blocks: the response window, None where the event has the deadline.
        notes: takes the findings.

    Raises:
        RetryElsewhere: no node answered.
    """
    contract, start_block = subject.contract, subject.section.start_block
    search = Search(subject.nodes, contract, subject.head, subject.chain.max_span_blocks)
    newest = await search.newest()
    stretches = [newest]
    if isinstance(start_block, int) and start_block < newest.first:
        stretches.append(await search.oldest(start_block))
    logs = [log for stretch in stretches for log in stretch.logs]
    created = _task_logs(contract, logs) or await _search_by_topic(search, contract, stretches, count)
    if not created:
        await _no_task(search, subject, stretches, count, notes)
        return None
    others = describe_topics(_other_topics(contract, [newest]))
    task = await check_task(subject, created[-1], newest, count, window_blocks, others, notes)
    if task is not None:
        check_values(task, subject.head, window_blocks, notes)
        await asyncio.to_thread(check_readers, contract.convention.created, task, notes)
        if count is not None:
            first = _task_logs(contract, _logs_since(start_block, stretches))[:1]
            await check_count(subject, count, task, first, notes)
    await check_answer(subject, logs, notes)
    return task


def _task_logs(contract: TaskManager, logs: Sequence[Log]) -> list[Log]:
    """Return the logs that create tasks, the newest last."""
    created = [log for log in logs if contract.creates_task(log)]
    return sorted(created, key=lambda log: (log.block_number, log.log_index))


def _logs_since(start_block: int | str, stretches: Sequence[Stretch]) -> list[Log]:
    """Return the logs from `start_block` on, where a stretch that was read begins at or before it.

    The newest stretch may begin earlier: its older logs are of tasks the contract had counted by then.
    """
    if not isinstance(start_block, int):
        return []
    return [
        log
        for stretch in stretches
        if stretch.first <= start_block <= stretch.last
        for log in stretch.logs
        if log.block_number >= start_block
    ]


def _other_topics(contract: TaskManager, stretches: Sequence[Stretch]) -> list[bytes]:
    """Return the topic of each log that is not of the convention's events."""
    own = contract.convention.topics0
    unique = {
        (log.block_number, log.tx_hash, log.log_index, log.topics[0]): log.topics[0]
        for stretch in stretches
        for log in stretch.logs
    }
    return [topic for topic in unique.values() if topic not in own]


async def _search_by_topic(
    search: Search, contract: TaskManager, stretches: list[Stretch], count: int | None
) -> list[Log]:
    """Return the newest log of a task between the stretches, and add the searched blocks to them."""
    if count == contract.lowest_index or _presets(_other_topics(contract, stretches)):
        return []
    stretch = await search.created(None if count is None else count - 1)
    stretches.append(Stretch((), stretch.first, stretch.last))
    return list(stretch.logs)


async def _no_task(
    search: Search, subject: Subject, stretches: Sequence[Stretch], count: int | None, notes: Notes
) -> None:
    """Add a finding for a contract of which no log of a task was found."""
    contract = subject.contract
    topics = _other_topics(contract, stretches)
    remedy = _remedy(contract, topics)
    if count == contract.lowest_index or (count is None and not remedy):
        _none_expected(contract, topics, count, notes)
        return
    was_all_read = any(stretch.first == 0 and stretch.last == subject.head.number for stretch in stretches)
    if not remedy and count is not None and not was_all_read:
        block = await search.counted(count)
        if block is None:
            notes.warn(
                "events",
                f"{count - contract.lowest_index} tasks, and no {event_text(contract.convention.created)} in the blocks"
                " that were searched; no node keeps the state that would tell whether there should be one: name an"
                " archive node",
            )
            return
        logs = await search.block(block)
        if _task_logs(contract, logs):
            notes.ok("events", f"{event_name(contract.convention.created)} was seen in block {block}")
            return
        topics = [log.topics[0] for log in logs]
        remedy = _remedy(contract, topics)
    tasks = "tasks were made" if count is None else f"the contract counts {count - contract.lowest_index} tasks"
    notes.wrong(
        "events",
        f"task_manager.convention: your event signature does not match: {tasks}, and no log is "
        f"{event_text(contract.convention.created)}; {_seen_instead(topics, remedy)}",
    )


def _none_expected(contract: TaskManager, topics: Sequence[bytes], count: int | None, notes: Notes) -> None:
    """Add a finding for a contract that has made no task, or does not count them."""
    created = contract.convention.created
    others = f"; other events: {describe_topics(topics)}" if topics else ""
    if count is not None:
        notes.ok("events", f"no task yet to compare {event_name(created)} with{others}")
    else:
        message = f"no {event_text(created)} was seen; if the contract has made tasks, its event is another one"
        notes.warn("events", message + others)


def _presets(topics: Sequence[bytes]) -> list[str]:
    """Return the names of the presets whose tasks are among these topics."""
    return sorted({name for topic in topics for name in presets_by_topic().get(topic, ())})


def _remedy(contract: TaskManager, topics: Sequence[bytes]) -> str:
    """Return the setting to make, by the events that the contract emits instead; "" if they do not show it."""
    if presets := _presets(topics):
        return f"this looks like {' or '.join(presets)}: set that"
    closest = closest_signature(contract.convention.created.signature, topics)
    return "" if closest is None else f"its event is {closest}: correct task.event"


def _seen_instead(topics: Sequence[bytes], remedy: str) -> str:
    if not topics:
        return "there is no log at all: name another node if this one keeps no old logs, else describe its event"
    return f"seen instead: {describe_topics(topics)}; {remedy or 'describe the event that makes its tasks'}"
