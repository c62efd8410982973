"""A task for a test, with plausible values."""

import hashlib
from collections.abc import Mapping
from typing import Any

from watcher.task import Sighting, Task


def make_task(
    message: bytes = b"",
    *,
    task_index: int = 0,
    chain_id: int = 31337,
    task_manager: bytes = b"\x11" * 20,
    task_hash: bytes | None = None,
    created_block: int = 100,
    quorum_numbers: bytes = b"\x00",
    quorum_threshold: int = 66,
    deadline_block: int | None = 130,
    seen_at: Sighting | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Task:
    """Return a task with plausible values for the arguments left out.

    The default `task_hash` is 32 bytes that depend on the index and the message; a real one is the keccak of the
    contract's struct, which a hook has no need to compute. `fields` are the values of the event by name.
    """
    content = task_index.to_bytes(32, "big") + message
    return Task(
        chain_id=chain_id,
        task_manager=task_manager,
        task_index=task_index,
        task_hash=_stand_in(b"task" + content) if task_hash is None else task_hash,
        created_block=created_block,
        message=message,
        quorum_numbers=quorum_numbers,
        quorum_threshold=quorum_threshold,
        deadline_block=deadline_block,
        seen_at=seen_at or Sighting(created_block, _stand_in(b"block" + content), _stand_in(b"tx" + content), 0),
        fields=fields or {},
    )


def _stand_in(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
