"""A hook for a contract of Chainbase's kind: the task is a text, the answer is another one.

The contract's strings are their UTF-8 here: `task.message` is the text's bytes, and bytes are returned. This one
counts: "three blind mice" is answered by "3 words".
"""

from watcher import Skip, Task


def respond(task: Task) -> bytes | Skip:
    """Return how many words the text has; skip what is not a text."""
    try:
        text = task.message.decode("utf-8")
    except UnicodeDecodeError:
        return Skip("the task's details are not UTF-8, which a contract does not rule out")
    count = len(text.split())
    return f"{count} {'word' if count == 1 else 'words'}".encode()
