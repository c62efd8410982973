"""The example hook: the message is a number, the answer is its square.

Both are ABI-encoded uint256, that is 32 bytes, big-endian; the square wraps around at 2**256 as it does in Solidity.
"""

from watcher import Skip, Task


def respond(task: Task) -> bytes | Skip:
    """Return the square of the task's number; skip a message that is not a number."""
    if len(task.message) != 32:
        return Skip(f"the message is {len(task.message)} bytes long, not 32")
    number = int.from_bytes(task.message, "big")
    return (number * number % 2**256).to_bytes(32, "big")
