"""A hook for a contract like Chainbase's: the task is a text, the answer is another text.

The contract's strings are UTF-8 here, in `task.message` and in the answer. This hook counts words: the answer to "three
blind mice" is "3 words".
"""

from watcher import Skip, Task


def respond(task: Task) -> bytes | Skip:
    """Return the number of words; skip a message that is not UTF-8."""
    try:
        text = task.message.decode("utf-8")
    except UnicodeDecodeError:
        return Skip("the message is not UTF-8, which the contract does not check")
    count = len(text.split())
    return f"{count} {'word' if count == 1 else 'words'}".encode()
