"""The response function of the AVS: `watcher run` calls respond() for each task, in a worker process of its own."""

from watcher import Skip, Task


def respond(task: Task) -> bytes | Skip:
    """Return the response to a task, as the contract's type: here a uint256 in 32 bytes, the square of the message.

    Return the same response to the same task every time. Return Skip(reason) for a task without a response, or
    Later(blocks=2) to be called again. An exception costs the task one attempt, and other tasks nothing.
    """
    if len(task.message) != 32:
        return Skip(f"the message has {len(task.message)} bytes, not 32")
    number = int.from_bytes(task.message, "big")
    return (number * number % 2**256).to_bytes(32, "big")
