"""Whether indices count up from task.first_index, as they must where a contract says how many tasks it has made.

Where they do not, tasks that never were are looked for, and no proof is ever complete.
"""

from collections.abc import Sequence

from watcher.chain.contract import TaskManager
from watcher.chain.convention.view import NoSuchView
from watcher.chain.counting import Numbered, contradiction, probes
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Log, Unread
from watcher.doctor.finding import Notes
from watcher.errors import Quarantine, RetryElsewhere
from watcher.settings.model import Settings
from watcher.task import Header, Task

_ADVICE = (
    "correct task.first_index, task.count_is, task.index or task.count_view; or leave count_view out, where indices do"
    " not count up"
)


async def check(
    settings: Settings,
    nodes: NodePool,
    contract: TaskManager,
    head: Header,
    count: int,
    newest: Task,
    first: Sequence[Log],
    notes: Notes,
) -> None:
    """A red line where `newest`, or the `first` log since task_manager.start_block, is numbered otherwise.

    `count` is the next index at `head`.
    """
    index = None if not first else _index(settings, contract, first[0])
    slip = contradiction(await _numbered(contract, head, count, index, newest))
    if slip is not None:
        notes.wrong("count", f"task_manager.convention: {'; '.join(slip)}")
        return
    start_block = settings.task_manager.start_block
    if index is None or not isinstance(start_block, int):
        return
    try:
        before = contract.lowest_index if start_block == 0 else await _counted(nodes, contract, start_block - 1)
    except RetryElsewhere:
        return  # nobody can tell
    if index != before:
        tasks = before - contract.lowest_index
        words = f"task_manager.convention: it counted {tasks} tasks before block {start_block}, and the first"
        notes.wrong("count", f"{words} since is task {index}: the node holds logs back, or else {_ADVICE}")


def _index(settings: Settings, contract: TaskManager, log: Log) -> int | None:
    try:
        return contract.convention.decode_task(log, settings.chain.chain_id, None).task_index
    except Quarantine:
        return None


async def _numbered(contract: TaskManager, head: Header, count: int, lowest: int | None, newest: Task) -> Numbered:
    held: dict[int, bool] = {}
    if contract.proves_tasks:
        asked = probes(count, contract.lowest_index)
        found = await contract.hashes_and_responses(asked, head)
        held = {i: one[0] is not None for i, one in zip(asked, found, strict=True) if not isinstance(one, Unread)}
    return Numbered(count, contract.lowest_index, lowest, newest.task_index, held)


async def _counted(nodes: NodePool, contract: TaskManager, block: int) -> int:
    before = await nodes.header(block)
    if before is None:
        raise RetryElsewhere(f"no node has block {block}")
    try:
        return await contract.latest_task_num(before)
    except NoSuchView:
        return contract.lowest_index  # the contract did not exist yet
