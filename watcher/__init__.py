"""AVS task watcher: answers every task of an AVS exactly once, and proves it.

For authors of hooks:

    from watcher import Skip, Task

    def respond(task: Task) -> bytes | Skip:
        return task.message[::-1] if task.message else Skip("nothing to reverse")
"""

from watcher.task import DecodedTask, Later, Skip, Task

__all__ = ["DecodedTask", "Later", "Skip", "Task"]
