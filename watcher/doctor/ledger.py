"""The ledger: there or makeable, of our schema, writable, with room."""

import asyncio
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import URL

from watcher.chain.contract import genesis_hash
from watcher.chain.rpc.nodes import NodePool
from watcher.doctor import disk
from watcher.doctor.finding import Notes
from watcher.errors import FixConfiguration, TryLater, WatcherError
from watcher.ledger import queries, schema
from watcher.ledger.engine import durability, parse_url, sqlite_path
from watcher.ledger.lock import refuse_missing_ledger
from watcher.ledger.restore import held_to, loss_of
from watcher.ledger.store import Reader
from watcher.settings.model import Settings


async def check(settings: Settings, notes: Notes) -> None:
    """Lines about the file or the server, and about the disk."""
    url = parse_url(settings.ledger.url)
    path = sqlite_path(url)
    if path is None:
        await _content(settings, url, "PostgreSQL", notes)
        await asyncio.to_thread(_durable, url, notes)
        return
    folder = path.parent
    if not folder.is_dir():
        notes.wrong("folder", f"ledger.url: the folder {folder} does not exist; make it, or name another")
        return
    refuse_missing_ledger(path)
    if (loss := await asyncio.to_thread(loss_of, path)) is not None:
        words = "tasks it has no answer for will be held back until their deadlines; see Restoring a backup"
        notes.warn("restored", f"{loss.words}: {words} in docs/service.md")
    if path.exists():
        await _content(settings, url, str(path), notes)
    elif trouble := await asyncio.to_thread(_not_writable, folder):
        words = f"ledger.url: nothing can be written in {folder} ({trouble}); give this user the right, or name another"
        notes.wrong("folder", words)
    else:
        notes.ok("file", f"{path} will be made at the first start")
    await asyncio.to_thread(disk.check, folder, notes)


async def _content(settings: Settings, url: URL, name: str, notes: Notes) -> None:
    state = await asyncio.to_thread(schema.check, url)
    if state.current is None:
        notes.ok("schema", f"{name}, empty; filled at the first start")
        return
    upgrade = "" if state.is_current else f", to be upgraded to {state.wanted} at the next start"
    try:
        await asyncio.to_thread(schema.try_writing, url)
    except TryLater as busy:
        notes.wrong("writing", str(busy), busy.exit_code)
    else:
        notes.ok("schema", f"{name}, writable, schema {state.current}{upgrade}")
    if state.is_current:
        await asyncio.to_thread(_begun, settings, url, notes)
        await asyncio.to_thread(_held, settings, url, notes)


def _durable(url: URL, notes: Notes) -> None:
    """Whether a commit of the server outlives a power cut."""
    weak, pooled = durability(url)
    if weak:
        words = f"the server may lose what it has committed ({'; '.join(weak)}): a task could be answered twice"
        notes.wrong("durability", f"{words}; set them to on")
    else:
        notes.ok("durability", "commits are on the disk" + (", through a pooler" if pooled else ""))


def _begun(settings: Settings, url: URL, notes: Notes) -> None:
    """Where this contract's tasks were begun to be read: that cannot be changed afterwards."""
    begun = _beginning(settings, url)
    problem = None if begun is None else begun.mismatch(settings.task_manager.start_block)
    if problem is not None:
        notes.wrong("beginning", problem)


def _held(settings: Settings, url: URL, notes: Notes) -> None:
    """Tasks that an earlier start on a restored ledger holds back."""
    with closing(Reader(url)) as reader:
        wanted = settings.task_manager.address_bytes
        cursor = reader.read_now(queries.find_source, settings.chain.chain_id, wanted)
        block = -1 if cursor is None else reader.read_now(held_to, cursor.source_id)
    if cursor is not None and block >= 0:
        words = f"it was restored: tasks up to block {block} are answered with what it holds, or not at all"
        notes.warn("restored", f"{words}; `watcher run --release-held` ends that (docs/service.md)")


async def same_chain(settings: Settings, nodes: NodePool, notes: Notes) -> None:
    """A line where the nodes serve another chain of the same id than the one the ledger was begun on."""
    begun = await asyncio.to_thread(_begun_on, settings)
    if begun is None:
        return
    try:
        shown = await genesis_hash(nodes, begun)
    except FixConfiguration as other:
        notes.wrong("genesis", str(other))
        return
    begun_on = begun.genesis_hash
    if shown is not None and begun_on is not None and shown != begun_on:
        words = f"block 0 is 0x{shown.hex()[:8]}…, and the ledger was begun on a chain where it is"
        notes.wrong("genesis", f"{words} 0x{begun_on.hex()[:8]}…; a chain that was reset needs a new ledger.url")


def _begun_on(settings: Settings) -> queries.Beginning | None:
    """The chain as the ledger has it; None without a ledger of today's schema, which `check` reports."""
    url = parse_url(settings.ledger.url)
    try:
        if not schema.check(url).is_current:
            return None
        return _beginning(settings, url)
    except WatcherError:
        return None


def _beginning(settings: Settings, url: URL) -> queries.Beginning | None:
    with closing(Reader(url)) as reader:
        return reader.read_now(queries.beginning, settings.chain.chain_id, settings.task_manager.address_bytes)


def _not_writable(folder: Path) -> str | None:
    """Why no file can be made in a folder, None where it can. The file has no name, and leaves nothing behind."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__
