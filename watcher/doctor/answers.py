"""Whether the event for answers and what the contract holds of an answer go together.

Where they do not, an answer that is on the chain is looked for in vain, for ever, and no error tells why.
"""

from collections.abc import Sequence

from watcher.chain.contract import TaskManager
from watcher.chain.convention.view import NoSuchView
from watcher.chain.rpc.replies import Log, Unread
from watcher.doctor.finding import Notes
from watcher.errors import Quarantine
from watcher.task import Header

_KEY = "task_manager.convention"


async def check(contract: TaskManager, head: Header, logs: Sequence[Log], notes: Notes) -> None:
    """A line about the newest log that shows an answer; none where no such log was seen."""
    convention = contract.convention
    shown = [log for log in logs if contract.shows_answer(log)]
    if not shown or convention.responded is None:
        return
    log = max(shown, key=lambda one: (one.block_number, one.log_index))
    event = convention.responded.signature.name
    try:
        response = convention.decode_response(log)
    except Quarantine as unfit:
        notes.wrong("answers", f"{_KEY}: a log that shows an answer cannot be read: {unfit}; correct response.event")
        return
    task = f"task {response.task_index}"
    view = convention.all_task_responses
    if view is None:
        notes.ok("answers", f"{event} was seen: it shows an answer to {task}")
        return
    try:
        (found,) = await contract.hashes_and_responses([response.task_index], head)
    except NoSuchView:
        found = Unread("the answer is empty")
    if isinstance(found, Unread):
        words = f"{_KEY}: {event} shows an answer to {task}, and {view.signature} answers nothing for it"
        notes.wrong("answers", f"{words}; correct response.index or response.hash_view")
        return
    held = found[1]
    if held is None:
        words = f"{_KEY}: {event} shows an answer to {task}, and {view.signature} holds none"
        notes.warn("answers", f"{words}; if that stays so, correct response.index or response.hash_view")
    elif contract.names_answers and held != response.response_hash:
        words = f"{_KEY}: {view.signature} holds another word for {task} than the hash of what response.hash names"
        advice = "correct response.event or response.hash (left out, any word there means that the task is answered)"
        notes.wrong("answers", f"{words}; {advice}")
    else:
        notes.ok("answers", f"{event} was seen, and {view.signature} holds the answer to {task}")
