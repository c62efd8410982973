"""The hook of the burst. It costs next to nothing, so that the burst measures everything else."""

import hashlib

from watcher import Task


def respond(task: Task) -> bytes:
    """Return the SHA-256 of the message."""
    return hashlib.sha256(task.message).digest()
