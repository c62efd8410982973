"""The rig's hook. Each answer is noted before it is given, so that a test knows what the hook really said."""

import hashlib
import os
import time
from pathlib import Path

from watcher import Later, Task

HERE = Path(__file__).parent


def _say(task: Task, answer: bytes) -> bytes:
    line = f"{task.task_index} {task.task_hash.hex()} {answer.hex()}\n".encode()
    notes = os.open(HERE / "said", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(notes, line)
    os.close(notes)
    return answer


def square(task: Task) -> bytes:
    number = int.from_bytes(task.message, "big")
    return _say(task, (number * number % 2**256).to_bytes(32, "big"))


def dice(task: Task) -> bytes:
    """Another answer each time it is asked: two answers for one task show at once."""
    return _say(task, hashlib.sha256(task.message + os.urandom(16)).digest())


def gated(task: Task) -> bytes:
    """Like `dice`, once the file `open` is there; leaves the file `entered-<index>` when it has to wait."""
    if not (HERE / "open").exists():
        (HERE / f"entered-{task.task_index}").touch()
    while not (HERE / "open").exists():
        time.sleep(0.02)
    return dice(task)


def raising(task: Task) -> bytes:
    """Like `dice`, once the file `open` is there; until then it fails."""
    if not (HERE / "open").exists():
        raise ValueError("not open yet")
    return dice(task)


def patient(task: Task) -> bytes | Later:
    """Like `dice`, once the file `open` is there; until then it asks to be asked again."""
    return dice(task) if (HERE / "open").exists() else Later(seconds=0.2, reason="not open yet")
