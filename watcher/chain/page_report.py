"""What a page of logs has beside tasks and responses: a line in the log and an event in the ledger for each kind."""

from loguru import logger

from watcher.chain.page import Decoded
from watcher.chain.rpc.replies import LogPage
from watcher.ledger.source import note_event
from watcher.ledger.store import Ledger


async def report(page: LogPage, decoded: Decoded, ledger: Ledger) -> None:
    """Report logs that were not asked for, logs that cannot be decoded, and tasks beyond the contract's count."""
    block = page.last.number

    async def note(kind: str, message: str) -> None:
        await ledger.write(note_event, ledger.source_id, kind, block, message)

    if page.foreign:
        logger.warning("chain.foreign_logs: a node sent logs that were not asked for", block=block, logs=page.foreign)
        await note("foreign logs", f"{page.foreign} logs were not asked for")
    if decoded.refused:
        message = decoded.refused_message()
        logger.warning("chain.logs_undecodable: logs cannot be decoded", block=block, reason=message)
        await note("undecodable log", message)
    if decoded.beyond:
        message = decoded.beyond_message()
        logger.warning("chain.tasks_beyond_count: logs show tasks beyond the count", block=block, reason=message)
        await note("tasks beyond the count", message)
