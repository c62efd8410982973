"""The hook of a torture run, as text: it is a file of its own in the run's folder.

Its answers are dice, so that two answers for one task show at once; each is noted before it is given. The first byte
of the message says how it behaves.
"""

from enum import IntEnum


class Manner(IntEnum):
    """First byte of a task's message."""

    PLAIN = 0
    SKIP = 1
    RAISE_FIRST = 2
    RAISE_ALWAYS = 3
    LATER_FIRST = 4
    CRASH_FIRST = 5
    WRONG_TYPE_FIRST = 6
    HANG_FIRST = 7


HOOK = """\
import hashlib
import os
import time
from pathlib import Path

from watcher import Later, Skip

HERE = Path(__file__).parent


def first_time(task):
    try:
        os.close(os.open(HERE / f"met-{task.task_hash.hex()}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def answer(task):
    manner = task.message[0]
    if manner == 1:
        return Skip(reason="told so")
    if manner == 3:
        raise ValueError("it always raises")
    if manner and first_time(task):
        if manner == 2:
            raise ValueError("it raises the first time")
        if manner == 4:
            return Later(seconds=0.3, reason="not yet")
        if manner == 5:
            os._exit(3)
        if manner == 6:
            return "not bytes"
        if manner == 7:
            time.sleep(60)
    said = hashlib.sha256(task.message + os.urandom(16)).digest()
    line = f"{task.task_index} {task.task_hash.hex()} {said.hex()}\\n".encode()
    notes = os.open(HERE / "said", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(notes, line)
    os.close(notes)
    return said
"""
