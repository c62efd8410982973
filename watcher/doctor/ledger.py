"""Check of the ledger: it exists or can be made, has our schema, is writable, and its disk has room and keeps data."""

import asyncio
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import URL

from watcher.chain.genesis import genesis_hash
from watcher.chain.rpc.nodes import NodePool
from watcher.daemon.own_ledger import begun_at
from watcher.doctor.finding import MISCONFIGURED, Notes
from watcher.errors import FixConfiguration, TryLater, WatcherError
from watcher.ledger import known_sources, schema
from watcher.ledger.engine import durability, parse_url, sqlite_path
from watcher.ledger.lock import refuse_missing_ledger
from watcher.ledger.move import loss_of_reopened
from watcher.ledger.reader import Reader
from watcher.ledger.restore import held_to, loss_of
from watcher.settings.ledger import Ledger
from watcher.settings.model import TaskManager

_MIB = 1024 * 1024
_LOW_SPACE_BYTES = 200 * _MIB
_NO_SPACE_BYTES = 10 * _MIB
_MOUNTS = Path("/proc/self/mounts")
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_OVER_A_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "ceph", "glusterfs"}
    | {"fuse.sshfs", "fuse.glusterfs"}
)


async def check_ledger(section: Ledger, chain_id: int, task_manager: TaskManager, notes: Notes) -> None:
    """Add findings on the file or the server, and on the disk.

    Args:
        section: the section [ledger].
        chain_id: the chain.
        task_manager: the section [task_manager].
        notes: takes the findings.

    Raises:
        FixConfiguration: the ledger is missing, damaged, of a newer program, or was left for another one.
        TryLater: the ledger cannot be read now.
    """
    url = parse_url(section.url)
    path = sqlite_path(url)
    if path is None:
        await _lost(url, notes)
        await _content(url, "PostgreSQL", chain_id, task_manager, notes)
        await asyncio.to_thread(_durable, url, notes)
        return
    try:
        await _check_file(url, path, chain_id, task_manager, notes)
    except PermissionError as error:
        notes.wrong("folder", f"ledger.url: {error.filename} is closed to this user; open its folder, or name another")


async def _check_file(url: URL, path: Path, chain_id: int, task_manager: TaskManager, notes: Notes) -> None:
    folder = path.parent
    if not folder.is_dir():
        notes.wrong("folder", f"ledger.url: the folder {folder} does not exist; make it, or name another")
        return
    refuse_missing_ledger(path)
    await _lost(url, notes)
    if await asyncio.to_thread(path.exists):
        await _content(url, str(path), chain_id, task_manager, notes)
    elif reason := await asyncio.to_thread(_not_writable, folder):
        message = f"ledger.url: no file can be made in {folder} ({reason}); let this user write there, or name another"
        notes.wrong("folder", message)
    else:
        notes.ok("file", f"{path} will be made at the first start")
    await asyncio.to_thread(check_disk, folder, notes)


async def _lost(url: URL, notes: Notes) -> None:
    """Add a finding on a ledger that was restored, or opened again. Raises FixConfiguration if it was left."""
    path = sqlite_path(url)
    lost = None if path is None else await asyncio.to_thread(loss_of, path)
    loss = await asyncio.to_thread(loss_of_reopened, url) or lost
    if loss is not None:
        advice = "tasks it has no answer for will be held back until their deadlines; see Restoring a backup"
        notes.warn("restored", f"{loss.reason}: {advice} in docs/service.md")


async def _content(url: URL, name: str, chain_id: int, task_manager: TaskManager, notes: Notes) -> None:
    state = await asyncio.to_thread(schema.check, url)
    if state.current is None:
        notes.ok("schema", f"{name}, empty; filled at the first start")
        return
    upgrade = "" if state.is_usable else f", to be upgraded to {state.expected} at the next start"
    try:
        await asyncio.to_thread(schema.try_writing, url)
    except TryLater as busy:
        notes.wrong("writing", str(busy), busy.exit_code)
    else:
        notes.ok("schema", f"{name}, writable, schema {state.current}{upgrade}")
    if state.is_usable:
        try:
            await asyncio.to_thread(begun_at, url, chain_id, task_manager)
        except FixConfiguration as error:
            notes.wrong("beginning", str(error))
        await asyncio.to_thread(_held_back, url, chain_id, task_manager, notes)


def _durable(url: URL, notes: Notes) -> None:
    """Add a finding: does a commit of the server survive a power cut?"""
    weak, pooled = durability(url)
    if weak:
        message = f"the server may lose what it has committed ({'; '.join(weak)}): a task could be answered twice"
        notes.wrong("durability", f"{message}; set them to on")
    else:
        notes.ok("durability", "commits are on the disk" + (", through a pooler" if pooled else ""))


def _held_back(url: URL, chain_id: int, task_manager: TaskManager, notes: Notes) -> None:
    """Add a finding on tasks that an earlier start on a restored ledger holds back."""
    with closing(Reader(url)) as reader:
        cursor = reader.read_now(known_sources.find_source, chain_id, task_manager.address_bytes)
        block = -1 if cursor is None else reader.read_now(held_to, cursor.source_id)
    if block >= 0:
        message = f"it was restored: tasks up to block {block} are answered with what it holds, or not at all"
        notes.warn("restored", f"{message}; `watcher run --release-held` ends that (docs/service.md)")


async def check_genesis(
    section: Ledger, chain_id: int, task_manager: TaskManager, nodes: NodePool, notes: Notes
) -> None:
    """Add a finding where the nodes serve another chain of the same id than the ledger's.

    Args:
        section: the section [ledger].
        chain_id: the chain.
        task_manager: the section [task_manager].
        nodes: the endpoints.
        notes: takes the finding.

    Raises:
        RetryElsewhere: no node answers.
    """
    begun = await asyncio.to_thread(_beginning, section, chain_id, task_manager)
    if begun is None:
        return
    try:
        genesis = await genesis_hash(nodes, begun)
    except FixConfiguration as error:
        notes.wrong("genesis", str(error))
        return
    if genesis is not None and begun.genesis_hash is not None and genesis != begun.genesis_hash:
        message = f"block 0 is 0x{genesis.hex()[:8]}…, and the ledger was begun on a chain where it is"
        advice = "a chain that was reset needs a new ledger.url"
        notes.wrong("genesis", f"{message} 0x{begun.genesis_hash.hex()[:8]}…; {advice}")


def _beginning(section: Ledger, chain_id: int, task_manager: TaskManager) -> known_sources.Beginning | None:
    """Return the ledger's beginning; None without a ledger of today's schema, which `check_ledger` reports."""
    url = parse_url(section.url)
    try:
        if not schema.check(url).is_usable:
            return None
        with closing(Reader(url)) as reader:
            return reader.read_now(known_sources.beginning, chain_id, task_manager.address_bytes)
    except WatcherError:
        return None


def _not_writable(folder: Path) -> str | None:
    """Return the reason why no file can be made in a folder, None if one can. The probe has no name and is gone."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def check_disk(folder: Path, notes: Notes, mounts: Path = _MOUNTS) -> None:
    """Add findings on the file system of a folder; `mounts` is read as proc(5), /proc/self/mounts."""
    _space(folder, notes)
    try:
        kind = file_system(folder.resolve(), mounts.read_text(errors="replace"))
    except OSError:
        return  # a system without /proc
    if kind in _IN_MEMORY:
        message = f"ledger.url: {folder} lies in memory ({kind}): a restart of the machine deletes every answer"
        notes.warn("file system", f"{message}; name a disk")
    elif kind in _OVER_A_NETWORK:
        message = f"ledger.url: {folder} is on a network disk ({kind}), where SQLite's locks may not hold"
        notes.warn("file system", f"{message}; name a local disk, or use PostgreSQL")


def file_system(folder: Path, mounts: str) -> str:
    """Return the kind of the folder's file system by the text of /proc/mounts, "" if no line fits.

    Of the nearest mount points the one mounted last counts.
    """
    depth, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].encode().decode("unicode_escape"))  # a space is written \\040
        if folder.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), fields[2]
    return kind


def _space(folder: Path, notes: Notes) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < _NO_SPACE_BYTES:
        message = f"{free_bytes // _MIB} MiB free in {folder}: the ledger cannot be written; free disk space"
        notes.wrong("space", message, MISCONFIGURED)
    elif free_bytes < _LOW_SPACE_BYTES:
        notes.warn("space", f"less than {_LOW_SPACE_BYTES // _MIB} MiB free in {folder}; free disk space")
    else:
        notes.ok("space", f"{free_bytes // _MIB} MiB free in {folder}")
