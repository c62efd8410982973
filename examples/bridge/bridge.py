"""A hook for a bridge: the message is a transfer, the answer lets the other side pay it out once.

A request is a recipient (20 bytes) and an amount (uint256, 32 bytes). The answer is an identity that no other request
of any bridge has, followed by the request. The operators sign the task's index and these bytes, but neither chain nor
contract: without the identity an answer would be valid on every other deployment.
"""

import hashlib

from watcher import Skip, Task

REQUEST_BYTES = 20 + 32


def respond(task: Task) -> bytes | Skip:
    """Return the transfer with its identity in front; skip a message that is not a transfer."""
    if len(task.message) != REQUEST_BYTES:
        return Skip(f"the message is {len(task.message)} bytes long, not {REQUEST_BYTES}")
    if not any(task.message[20:]):
        return Skip("the amount is zero")
    return identity(task) + task.message


def identity(task: Task) -> bytes:
    """Return 32 bytes that identify this request among those of all bridges."""
    origin = task.chain_id.to_bytes(32, "big") + task.task_manager + task.task_index.to_bytes(4, "big")
    return hashlib.sha256(origin).digest()
