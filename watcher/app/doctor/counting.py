"""Whether indices count up from 0, as they must where a contract says how many tasks it has made.

Where they do not, tasks that never were are looked for, and no proof is ever complete.
"""

from collections.abc import Sequence

from watcher.app.doctor.finding import Notes
from watcher.app.settings.model import Settings
from watcher.chain.abi import NoSuchView
from watcher.chain.answers import Log
from watcher.chain.contract import TaskManager
from watcher.chain.endpoints import Endpoints
from watcher.errors import Quarantine, RetryElsewhere
from watcher.task import Task

_ADVICE = "correct task.index or task.count_view; or leave count_view out, where indices do not count up from 0"


async def look(
    settings: Settings,
    nodes: Endpoints,
    contract: TaskManager,
    count: int,
    newest: Task,
    first: Sequence[Log],
    notes: Notes,
) -> None:
    """A red line where `newest`, or the `first` log since task_manager.start_block, is numbered otherwise."""
    if newest.task_index >= count:
        words = f"task_manager.convention: the contract counts {count} tasks, and has made task {newest.task_index}"
        notes.wrong("count", f"{words}; {_ADVICE}")
        return
    start_block = settings.task_manager.start_block
    if not first or not isinstance(start_block, int):
        return
    try:
        index = contract.convention.decode_task(first[0], settings.chain.chain_id, None).task_index
        before = 0 if start_block == 0 else await _counted(nodes, contract, start_block - 1)
    except (Quarantine, RetryElsewhere):
        return  # nobody can tell
    if index != before:
        words = f"task_manager.convention: it counted {before} tasks before block {start_block}, and the first"
        notes.wrong("count", f"{words} since is task {index}: the node holds logs back, or else {_ADVICE}")


async def _counted(nodes: Endpoints, contract: TaskManager, block: int) -> int:
    before = await nodes.header(block)
    if before is None:
        raise RetryElsewhere(f"no node has block {block}")
    try:
        return await contract.latest_task_num(before)
    except NoSuchView:
        return 0  # the contract did not exist yet
