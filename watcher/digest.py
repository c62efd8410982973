"""Digests that more than one side of the program must agree on.

Importing this is cheap: eth-abi and the keccak back end are loaded on first use.
"""

from watcher.errors import Quarantine


def sig_hash(task_index: int, resp_message: bytes) -> bytes:
    """The 32 bytes the operators sign for a response: keccak256(abi.encode(TaskResponse)).

    `TaskResponse` is `(uint32 referenceTaskIndex, bytes message)`, a dynamic tuple, hence the leading offset word. The
    contract checks the aggregated signature against the same digest in its respond function. It binds neither chain nor
    contract nor the content of the task. Raises Quarantine for an index that does not fit uint32.
    """
    from eth_utils.crypto import keccak

    if not 0 <= task_index < 2**32:
        raise Quarantine(f"task index {task_index} does not fit uint32: no contract of this convention has it")
    # Laid out by hand: eth-abi, the oracle of the tests, takes three times as long as the hash itself.
    words = (32, task_index, 64, len(resp_message))
    padding = bytes(-len(resp_message) % 32)
    return bytes(keccak(b"".join(word.to_bytes(32, "big") for word in words) + resp_message + padding))
