"""A hook for EigenLayer's incredible squaring: the task is a number, the answer is its square.

Both are a uint256 in the contract, and 32 bytes, big-endian, in `task.message` and in the answer. The number is also
available by its name in the contract:

    task.fields["task"]["numberToBeSquared"]

Unlike the squaring example this one does not wrap around: the contract squares with overflow checks.
"""

from watcher import Skip, Task


def respond(task: Task) -> bytes | Skip:
    """Return the square as a uint256; skip a number whose square does not fit."""
    number = int.from_bytes(task.message, "big")
    if number >= 2**128:
        return Skip("the square does not fit into a uint256")
    return (number * number).to_bytes(32, "big")
