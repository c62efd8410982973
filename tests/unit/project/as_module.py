"""A hook beside its test."""

from watcher import Task


def respond(task: Task) -> bytes:
    return task.message
