"""The hook of the burst: it costs next to nothing, so that what is measured is everything around it."""

import hashlib

from watcher import Task


def respond(task: Task) -> bytes:
    """Return the SHA-256 of the message."""
    return hashlib.sha256(task.message).digest()
