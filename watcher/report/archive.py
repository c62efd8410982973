"""The export of the stories of old final tasks from the ledger into compressed files.

Invariant: a story is removed from the ledger only after its file is complete on the disk, under its final name and with
its checksum beside it. A crash at any moment may duplicate stories, and never loses one.
"""

import gzip
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watcher.errors import FixUsage
from watcher.ledger import queries, retention
from watcher.ledger.reader import Reader
from watcher.ledger.retention import BATCH, Age, Mark, Story
from watcher.ledger.store import write_once
from watcher.report.listing import hexed, story_fields, task_fields

FILE_LIMIT_TASKS = 100_000  # per file; its row ids are in memory meanwhile


@dataclass(frozen=True, slots=True)
class Export:
    """One finished file."""

    path: Path
    sha256: str
    tasks: int
    first_index: int
    last_index: int
    removed_lines: int


def retain(
    reader: Reader,
    url: str,
    source_id: int,
    age: Age,
    folder: Path,
    *,
    limit_tasks: int = FILE_LIMIT_TASKS,
    say: Callable[[Export], None] = lambda _: None,
) -> list[Export]:
    """Export and remove old stories, file by file, in short transactions beside a running daemon.

    Args:
        reader: the ledger.
        url: the same ledger, for writing.
        source_id: the task manager.
        age: the least age of a task.
        folder: the folder of the files, created if it does not exist.
        limit_tasks: the most tasks in one file.
        say: called with each finished file.

    Returns:
        The finished files.

    Raises:
        FixUsage: the folder cannot be written.
        TryLater: the ledger cannot be read or written.
    """
    done: list[Export] = []
    while (export := _one_file(reader, url, source_id, age, folder, limit_tasks)) is not None:
        done.append(export)
        say(export)
    return done


def _one_file(reader: Reader, url: str, source_id: int, age: Age, folder: Path, limit: int) -> Export | None:
    upto = reader.read_now(retention.mark)
    pages = _pages(reader, source_id, age, upto, limit)
    first = next(pages, None)
    if first is None:
        return None
    rows: list[int] = []
    indices: list[int] = []

    def lines() -> Iterator[bytes]:
        for page in _chain(first, pages):
            for story in page:
                rows.append(story.task.id)
                indices.append(story.task.task_index)
                yield json.dumps(_fields(story), separators=(",", ":")).encode() + b"\n"

    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        part = _written(folder, lines())
        low, high = min(indices), max(indices)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path, sha256 = _named(part, f"tasks-{low}-{high}-{stamp}", folder)
    except OSError as error:
        raise FixUsage(f"{folder} cannot be written ({error.strerror}); nothing was removed") from None
    final_block = reader.read_now(queries.cursor, source_id).final_block
    message = f"the stories of {len(rows)} tasks ({low} to {high}) were moved to {path.name}, sha256 {sha256}"
    write_once(url, retention.note_export, source_id, final_block, message)
    removed = sum(
        write_once(url, retention.remove, rows[start : start + BATCH], upto) for start in range(0, len(rows), BATCH)
    )
    return Export(path, sha256, len(rows), low, high, removed) if removed else None


def _pages(reader: Reader, source_id: int, age: Age, upto: Mark, limit: int) -> Iterator[list[Story]]:
    """Yield the stories in pages, each read on its own: one long read would keep the write-ahead log from shrinking."""
    after_id = count = 0
    while count < limit:
        page = reader.read_now(retention.stories, source_id, age, upto, after_id, min(BATCH, limit - count))
        if not page:
            return
        yield page
        count += len(page)
        after_id = page[-1].task.id


def _chain(first: list[Story], rest: Iterator[list[Story]]) -> Iterator[list[Story]]:
    yield first
    yield from rest


def _fields(story: Story) -> dict[str, Any]:
    """Return the fields of `tasks show --json`, with fence and request digest of each attempt."""
    fields = task_fields(story.task) | story_fields(story.journal, story.attempts)
    for line, row in zip(fields["attempt_log"], story.attempts, strict=True):
        line["fence"], line["request_digest"] = row.fence, hexed(row.request_digest)
    return fields


def _written(folder: Path, lines: Iterator[bytes]) -> Path:
    """Write the lines to a compressed file on the disk, under a temporary name."""
    part = folder / f".tasks-{os.getpid()}.part"
    try:
        handle = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o640)
        with os.fdopen(handle, "wb") as raw:
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                for line in lines:
                    packed.write(line)
            raw.flush()
            os.fsync(raw.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def _named(part: Path, stem: str, folder: Path) -> tuple[Path, str]:
    """Give the file an unused name and write its checksum beside it. Return the path and the SHA-256."""
    with part.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    number = 0
    while True:
        path = folder / f"{stem}{f'-{number}' if number else ''}.jsonl.gz"
        try:
            os.link(part, path)  # unlike a rename, a link never replaces a file
            break
        except FileExistsError:
            number += 1
    part.unlink()
    beside = path.with_name(path.name + ".sha256")
    beside.unlink(missing_ok=True)  # of an export that was removed; it could be a symbolic link
    with os.fdopen(os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o640), "w") as file:
        file.write(f"{sha256}  {path.name}\n")
        file.flush()
        os.fsync(file.fileno())
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return path, sha256
