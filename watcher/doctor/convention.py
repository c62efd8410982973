"""Whether the contract emits the events of its convention. A wrong signature is silent otherwise: no task, no error.

Invariant: red only by what the contract itself says, its count and its hashes, against logs that were really read.
"""

from watcher.chain.contract import TaskManager
from watcher.chain.convention.view import NoSuchView
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Log, Unread
from watcher.doctor import answers, counting, values
from watcher.doctor.finding import Notes
from watcher.doctor.log_search import Search, Stretch
from watcher.doctor.signatures import closest_signature
from watcher.doctor.topics import presets_by_topic, told
from watcher.errors import Quarantine
from watcher.settings.model import Settings
from watcher.task import Header, Task


async def check(
    settings: Settings,
    nodes: NodePool,
    contract: TaskManager,
    head: Header,
    count: int | None,
    window: int | None,
    notes: Notes,
) -> Task | None:
    """The newest task that was found, after a green or red line about the event that made it."""
    search = Search(nodes, contract, head, settings.chain.max_span_blocks)
    start_block = settings.task_manager.start_block
    newest = await search.newest()
    seen = [newest]
    if isinstance(start_block, int) and start_block < newest.first:
        seen.append(await search.oldest(start_block))
    logs = [log for stretch in seen for log in stretch.logs]
    made = _made(contract, logs) or await _far_away(search, contract, seen, count)
    if made:
        task = await _compare(settings, contract, head, made[-1], newest, window, notes)
        if task is not None:
            values.check(task, head, window, notes)
            if count is not None:
                first = _made(contract, _since(start_block, seen))[:1]
                await counting.check(settings, nodes, contract, head, count, task, first, notes)
        await answers.check(contract, head, logs, notes)
        return task
    await _missing(search, contract, head, seen, count, notes)
    return None


def _made(contract: TaskManager, logs: list[Log]) -> list[Log]:
    made = [log for log in logs if contract.creates_task(log)]
    return sorted(made, key=lambda log: (log.block_number, log.log_index))


def _since(start_block: int | str, seen: list[Stretch]) -> list[Log]:
    """Return the logs from `start_block` on, where a stretch that was read begins at or before it.

    The newest stretch may begin earlier: its older logs are of tasks the contract had counted by then.
    """
    if not isinstance(start_block, int):
        return []
    return [
        log
        for one in seen
        if one.first <= start_block <= one.last
        for log in one.logs
        if log.block_number >= start_block
    ]


def _others(contract: TaskManager, seen: list[Stretch]) -> list[bytes]:
    ours = contract.convention.topics0
    unique = {
        (log.block_number, log.tx_hash, log.log_index, log.topics[0]): log.topics[0]
        for stretch in seen
        for log in stretch.logs
    }
    return [one for one in unique.values() if one not in ours]


async def _far_away(search: Search, contract: TaskManager, seen: list[Stretch], count: int | None) -> list[Log]:
    """The newest task where it lies between the ends that were read: by its topic alone."""
    if count == contract.lowest_index or _known(_others(contract, seen)):
        return []
    found = await search.created(None if count is None else count - 1)
    seen.append(Stretch((), found.first, found.last))
    return list(found.logs)


def _known(topics: list[bytes]) -> list[str]:
    """The conventions whose tasks were seen among these topics."""
    return sorted({name for one in topics for name in presets_by_topic().get(one, ())})


async def _compare(
    settings: Settings,
    contract: TaskManager,
    head: Header,
    log: Log,
    newest: Stretch,
    window: int | None,
    notes: Notes,
) -> Task | None:
    """The newest task against what the contract holds of it, and its answer against the event for answers."""
    try:
        task = contract.convention.decode_task(log, settings.chain.chain_id, window)
    except Quarantine as unfit:
        notes.wrong("events", f"task_manager.convention: a log of its event cannot be read: {unfit}; correct the event")
        return None
    try:
        (found,) = await contract.hashes_and_responses([task.task_index], head)
    except NoSuchView:
        return task  # reported already
    if isinstance(found, Unread):
        words = f"task_manager.convention: its event shows task {task.task_index}, and {found.reason}"
        (notes.wrong if found.reverted else notes.warn)("events", f"{words}; correct task.index or task.hash_view")
        return task
    held, answered = found
    here = await contract.header(log.block_number)
    if here is not None and task.created_block != here.contract_block:
        words = (
            f"task {task.task_index} says block {task.created_block}, its log is in block {here.contract_block}: either"
        )
        notes.warn(
            "created block", f"{words} task.created_block is wrong, or this chain's contracts count other blocks"
        )
    index, shown = task.task_index, [one for one in newest.logs if contract.shows_answer(one)]
    if contract.proves_tasks and held is None:
        words = (
            f"task_manager.convention: the contract holds no hash of task {index}; if that stays so, correct task.index"
        )
        notes.warn("events", words)
    elif contract.proves_tasks and not contract.is_task(held, task.task_hash):
        words = f"task_manager.convention: the contract holds another hash of task {index} than its event gives"
        notes.wrong("events", f"{words}; correct task.event or task.hash")
    elif answered is not None and contract.shows_answers and log.block_number >= newest.first and not shown:
        words = (
            f"task_manager.convention: task {index} is answered, and no log is {_event(contract, responded=True)}: your"
        )
        notes.wrong("events", f"{words} signature of the event for answers does not match; correct response.event")
    else:
        others = told(_others(contract, [newest]))
        words = f"{_brief(contract)} was seen: task {index} in block {log.block_number}"
        notes.ok("events", words + (f"; other events: {others}" if others else ""))
    return task


async def _missing(
    search: Search, contract: TaskManager, head: Header, seen: list[Stretch], count: int | None, notes: Notes
) -> None:
    others = _others(contract, seen)
    alike = _alike(contract, others)
    if count == contract.lowest_index or (count is None and not alike):
        besides = f"; other events: {told(others)}" if others else ""
        if count is not None:
            notes.ok("events", f"no task yet to compare {_brief(contract)} with{besides}")
        else:
            words = f"no {_event(contract)} was seen; if the contract has made tasks, its event is another one"
            notes.warn("events", words + besides)
        return
    if not alike and count is not None and not any(one.first == 0 and one.last == head.number for one in seen):
        block = await search.counted(count)
        if block is None:
            words = (
                f"{count - contract.lowest_index} tasks, and no {_event(contract)} in the blocks that were searched; no"
            )
            words += " node keeps the state"
            notes.warn("events", f"{words} that would tell whether there should be one: name an archive node")
            return
        here = await search.block(block)
        if _made(contract, list(here)):
            notes.ok("events", f"{_brief(contract)} was seen in block {block}")
            return
        others = [log.topics[0] for log in here]
        alike = _alike(contract, others)
    tasks = "tasks were made" if count is None else f"the contract counts {count - contract.lowest_index} tasks"
    words = f"task_manager.convention: your event signature does not match: {tasks}, and no log is {_event(contract)}"
    notes.wrong("events", f"{words}; {_instead(others, alike)}")


def _alike(contract: TaskManager, others: list[bytes]) -> str:
    """What the contract emits instead, as the setting to make; "" where nobody knows."""
    if known := _known(others):
        return f"this looks like {' or '.join(known)}: set that"
    meant = closest_signature(contract.convention.created.signature, others)
    return "" if meant is None else f"its event is {meant}: correct task.event"


def _instead(others: list[bytes], alike: str) -> str:
    if not others:
        return (
            "there is no log at all: name another node if this one keeps no old logs, else describe the event it emits"
        )
    return f"seen instead: {told(others)}; {alike or 'describe the event that makes its tasks'}"


def _event(contract: TaskManager, *, responded: bool = False) -> str:
    event = contract.convention.responded if responded else contract.convention.created
    assert event is not None, "asked only where there is one"
    return f"{event.signature} (0x{event.topic.hex()[:8]}…)"


def _brief(contract: TaskManager) -> str:
    return f"{contract.convention.created.signature.name} 0x{contract.convention.created_topic.hex()[:8]}…"
