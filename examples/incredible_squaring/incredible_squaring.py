"""A hook for EigenLayer's incredible squaring: the task is a number, the answer is its square.

The contract asks and is answered in uint256. Here both are 32 bytes, big-endian: `task.message` is the number's word,
and so is what is returned. The number is also there by its name in the contract:

    task.fields["task"]["numberToBeSquared"]

Unlike the squaring example this one does not wrap around: the convention's contract squares with overflow checks.
"""

from watcher import Skip, Task


def respond(task: Task) -> bytes | Skip:
    """Return the square as a uint256; skip a number whose square is none."""
    number = int.from_bytes(task.message, "big")
    if number >= 2**128:
        return Skip("the square does not fit into a uint256")
    return (number * number).to_bytes(32, "big")
