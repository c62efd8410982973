"""The response function of the AVS: `watcher run` calls respond() for each task, in a worker process of its own."""

from watcher import DecodedTask, Skip


def respond(task: DecodedTask) -> int | Skip:
    """Return the response to a task: here the square of its number.

    The types of task.message and of the response are hook.message and hook.response in watcher.toml. Return the same
    response to the same task every time. Return Skip(reason) for a task without a response, or Later(blocks=2) to be
    called again. An exception costs the task one attempt, and other tasks nothing.
    """
    square: int = task.message.number**2
    if square >= 2**256:
        return Skip("the square does not fit into a uint256")
    return square
