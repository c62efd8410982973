"""Check of the newest task: the contract's hash, count and answer against those of the logs.

Where they differ, the daemon waits for an answer that it cannot recognise, or for tasks that never were.
"""

from collections.abc import Sequence

from watcher.chain.consistency import answered_from_the_start
from watcher.chain.contract import TaskManager, WordPair
from watcher.chain.convention.event import Event
from watcher.chain.convention.view import NoSuchView
from watcher.chain.counting import Numbered, contradiction, probes
from watcher.chain.rpc.replies import Log, Unread
from watcher.doctor.finding import Notes
from watcher.doctor.log_search import Stretch
from watcher.doctor.signatures import event_name, event_text
from watcher.doctor.subject import Subject
from watcher.errors import Quarantine, RetryElsewhere
from watcher.task import Header, Task

_KEY = "task_manager.convention"
_COUNT_ADVICE = (
    "correct task.first_index, task.count_is, task.index or task.count_view; or leave count_view out, where indices do"
    " not count up"
)
# Block numbers are lower, and times in seconds since 1970 are higher (2001).
_BLOCK_OR_TIME = 10**9
_PERCENT = 100


async def check_task(
    subject: Subject,
    log: Log,
    newest: Stretch,
    count: int | None,
    window_blocks: int | None,
    others: str,
    notes: Notes,
) -> Task | None:
    """Add findings on a log that creates a task. Return the task, None if the log cannot be read.

    Args:
        subject: the contract.
        log: the newest log that creates a task.
        newest: the newest blocks, with all logs.
        count: the next index at the head, None where the contract does not count its tasks.
        window_blocks: the response window, None where the event has the deadline.
        others: the other events in `newest`, as text.
        notes: takes the findings.

    Raises:
        RetryElsewhere: no node answered.
    """
    contract = subject.contract
    try:
        task = contract.convention.decode_task(log, subject.chain.chain_id, window_blocks)
    except Quarantine as error:
        notes.wrong("events", f"{_KEY}: a log of its event cannot be read: {error}; correct the event")
        return None
    index = task.task_index
    try:
        (entry,) = await contract.hashes_and_responses([index], subject.head)
    except NoSuchView:
        return task  # reported already
    if isinstance(entry, Unread):
        message = f"{_KEY}: its event shows task {index}, and {entry.reason}; correct task.index or task.hash_view"
        (notes.wrong if entry.reverted else notes.warn)("events", message)
        return task
    await _check_created_block(contract, log, task, notes)
    if (wrong_entry := await _contradiction(contract, log, task, entry, newest)) is not None:
        notes.wrong("events", wrong_entry)
    elif contract.proves_tasks and entry[0] is None:
        is_counted = count is not None and index < count and entry[1] is None
        _add_missing_hash(contract, index, notes, is_counted=is_counted)
    else:
        message = f"{event_name(contract.convention.created)} was seen: task {index} in block {log.block_number}"
        notes.ok("events", message + (f"; other events: {others}" if others else ""))
    return task


async def _contradiction(contract: TaskManager, log: Log, task: Task, entry: WordPair, newest: Stretch) -> str | None:
    """Return how the contract's entry of a task contradicts its log, None if it does not."""
    index, (task_hash, answer) = task.task_index, entry
    if contract.proves_tasks and task_hash is not None and not contract.is_task(task_hash, task.task_hash):
        return (
            f"{_KEY}: the contract holds another hash of task {index} than its event gives; correct task.event,"
            " task.hash or task.hash_view"
        )
    if answer is None:
        return None
    answers = [each for each in newest.logs if contract.shows_answer(each)]
    if all(each.block_number != log.block_number for each in answers):
        wrong_view = await answered_from_the_start(contract, task)
        if wrong_view is not None:
            return wrong_view.message
    responded = contract.convention.responded
    if answers or responded is None or log.block_number < newest.first:
        return None
    return (
        f"{_KEY}: task {index} is answered, and no log is {event_text(responded)}: your signature of the event for"
        " answers does not match; correct response.event"
    )


def _add_missing_hash(contract: TaskManager, index: int, notes: Notes, *, is_counted: bool) -> None:
    """Add a line for a task of which the contract holds nothing: red where its count at that block includes it."""
    view = contract.convention.all_task_hashes
    assert view is not None, "asked only where there is such a view"
    if is_counted:
        message = f"{_KEY}: the contract counts task {index}, and {view.signature} holds nothing of it"
        notes.wrong("events", f"{message}, so that the task is set aside; correct task.hash_view or task.index")
    else:
        message = f"{_KEY}: the contract holds no hash of task {index}; if that stays so, correct task.hash_view or"
        notes.warn("events", f"{message} task.index")


async def _check_created_block(contract: TaskManager, log: Log, task: Task, notes: Notes) -> None:
    header = await contract.header(log.block_number)
    if header is not None and task.created_block != header.contract_block:
        notes.warn(
            "created block",
            f"task {task.task_index} says block {task.created_block}, its log is in block {header.contract_block}: "
            "either task.created_block is wrong, or this chain's contracts count other blocks",
        )


def check_values(task: Task, head: Header, window_blocks: int | None, notes: Notes) -> None:
    """Add a yellow line for each value of a task that looks like a slip in the convention.

    Args:
        task: the newest task.
        head: the head, for the height of the chain.
        window_blocks: the response window, None where the event has the deadline.
        notes: takes the findings.
    """
    name = f"task {task.task_index}"
    if not task.quorum_numbers:
        message = f"{name} names no quorum, so that no operator is asked to sign; see task.quorum_numbers"
        notes.warn("quorums", f"{message}: a path, or numbers such as [0]")
    elif task.quorum_threshold > _PERCENT:
        message = f"{name} asks for {task.quorum_threshold} % of the stake, and nothing is sent for it"
        notes.warn("quorums", f"{message}; see task.quorum_threshold and task.threshold_scale")
    if window_blocks is None and (reason := _odd_deadline(task, head)) is not None:
        notes.warn("deadline", f"{name} {reason}")


def check_readers(event: Event, task: Task, notes: Notes) -> None:
    """Add a finding: does web3 read the same values as our decoder in the log that created the task?"""
    from watcher.chain.convention.web3_reader import Web3Reader  # late: web3 takes half a second of CPU to import

    agrees, log = Web3Reader(event).agrees(task), f"the log of task {task.task_index}"
    if agrees is None:
        notes.warn("second reader", f"web3 reads no values in {log}, so our decoder's stand alone")
    elif agrees:
        notes.ok("second reader", f"web3 reads the same values in {log}")
    else:
        message = f"web3 and our decoder read different values in {log}"
        notes.wrong("second reader", f"{message}: stop the daemon, and report a bug with the log")


def _odd_deadline(task: Task, head: Header) -> str | None:
    block, time_s = task.deadline_block, task.deadline_s
    if time_s is not None and time_s < _BLOCK_OR_TIME:
        message = (
            f"could be answered until {time_s} s after 1970, so that no answer is ever sent: that is a block, or a"
        )
        return f"{message} length of time; deadline.timestamp must be the last second itself"
    if block is not None and block < min(task.created_block, task.seen_at.block_number):
        message = f"was over at block {block}, before it was made, so that no answer is ever sent"
        return f"{message}; see the deadline: deadline.block must be the last block itself"
    if block is not None and block >= _BLOCK_OR_TIME > head.contract_block:
        return f"can be answered until block {block}: that looks like a time, which deadline.timestamp is for"
    return None


async def check_count(subject: Subject, count: int, newest: Task, first: Sequence[Log], notes: Notes) -> None:
    """Add a red line where indices do not count up from task.first_index to the contract's count.

    Args:
        subject: the contract.
        count: the next index at the head.
        newest: the newest task.
        first: the first log of a task since task_manager.start_block, empty where it was not read.
        notes: takes the findings.

    Raises:
        RetryElsewhere: no node answered.
    """
    contract, start_block = subject.contract, subject.section.start_block
    index = None if not first else _index(subject, first[0])
    problems = contradiction(await _numbered(subject, count, index, newest))
    if problems is not None:
        notes.wrong("count", f"{_KEY}: {'; '.join(problems)}")
        return
    if index is None or not isinstance(start_block, int):
        return
    try:
        before = contract.lowest_index if start_block == 0 else await _count_at(subject, start_block - 1)
    except RetryElsewhere:
        return  # no node has that state
    if index != before:
        tasks = before - contract.lowest_index
        message = f"{_KEY}: it counted {tasks} tasks before block {start_block}, and the first since is task {index}"
        notes.wrong("count", f"{message}: the node holds logs back, or else {_COUNT_ADVICE}")


def _index(subject: Subject, log: Log) -> int | None:
    try:
        return subject.contract.convention.decode_task(log, subject.chain.chain_id, None).task_index
    except Quarantine:
        return None


async def _numbered(subject: Subject, count: int, lowest: int | None, newest: Task) -> Numbered:
    """Return what the contract holds at both ends of its indices."""
    contract = subject.contract
    is_stored: dict[int, bool] = {}
    if contract.proves_tasks:
        indices = probes(count, contract.lowest_index)
        entries = await contract.hashes_and_responses(indices, subject.head)
        pairs = zip(indices, entries, strict=True)
        is_stored = {index: entry[0] is not None for index, entry in pairs if not isinstance(entry, Unread)}
    return Numbered(count, contract.lowest_index, lowest, newest.task_index, is_stored)


async def _count_at(subject: Subject, block: int) -> int:
    """Return the next index at a block. Raises RetryElsewhere if no node has its state."""
    header = await subject.nodes.header(block)
    if header is None:
        raise RetryElsewhere(f"no node has block {block}")
    try:
        return await subject.contract.latest_task_num(header)
    except NoSuchView:
        return subject.contract.lowest_index  # the contract did not exist yet


async def check_answer(subject: Subject, logs: Sequence[Log], notes: Notes) -> None:
    """Add a finding on the newest log that shows an answer, against the contract's record of it.

    Raises RetryElsewhere if no node answered.
    """
    contract, convention = subject.contract, subject.contract.convention
    answers = [log for log in logs if contract.shows_answer(log)]
    if not answers or convention.responded is None:
        return
    newest = max(answers, key=lambda log: (log.block_number, log.log_index))
    event, view = convention.responded.signature.name, convention.all_task_responses
    try:
        response = convention.decode_response(newest)
    except Quarantine as error:
        notes.wrong("answers", f"{_KEY}: a log that shows an answer cannot be read: {error}; correct response.event")
        return
    task = f"task {response.task_index}"
    if view is None:
        notes.ok("answers", f"{event} was seen: it shows an answer to {task}")
        return
    try:
        (entry,) = await contract.hashes_and_responses([response.task_index], subject.head)
    except NoSuchView:
        entry = Unread("the answer is empty")
    if isinstance(entry, Unread):
        message = f"{_KEY}: {event} shows an answer to {task}, and {view.signature} answers nothing for it"
        notes.wrong("answers", f"{message}; correct response.index or response.hash_view")
    elif entry[1] is None:
        message = f"{_KEY}: {event} shows an answer to {task}, and {view.signature} holds none"
        notes.warn("answers", f"{message}; if that stays so, correct response.index or response.hash_view")
    elif contract.names_answers and entry[1] != response.response_hash:
        message = f"{_KEY}: {view.signature} holds another word for {task} than the hash of what response.hash names"
        advice = "correct response.event or response.hash (left out, any word there means that the task is answered)"
        notes.wrong("answers", f"{message}; {advice}")
    else:
        notes.ok("answers", f"{event} was seen, and {view.signature} holds the answer to {task}")
