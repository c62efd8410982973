"""The contract of a hook, and the check of its answers.

A hook is a plain function, `def` or `async def`, that takes a `Task` and returns an answer:

    from watcher import Later, Skip, Task

    def respond(task: Task) -> bytes | Skip | Later:
        return hashlib.sha256(task.message).digest()

Invariant: an answer is exactly `bytes`, `Skip` or `Later`. No other type is converted, because the bytes are signed.
"""

import inspect
import math
from collections.abc import Awaitable
from typing import Protocol

from watcher.errors import AttemptFailed
from watcher.task import Later, Skip, Task
from watcher.text import clean

Answer = bytes | Skip | Later

# The targets of hooks that are programs begin with it.
PROGRAM_PREFIX = "exec:"

# The largest transaction that nodes take from others is 128 KiB (go-ethereum, txMaxSize).
ANSWER_LIMIT_BYTES = 131_072
# The longest pauses of `Later`, so that a wrong number cannot park a task for good.
LATER_LIMIT_BLOCKS = 100_000
LATER_LIMIT_S = 86_400.0


class ReplaceWorker(AttemptFailed):
    """The run failed, and its worker must take no further task."""


class Hook(Protocol):
    """A function that decides the answer to one task.

    It is called once per attempt, in a worker process, and may be called again for the same task after a failure or a
    crash; only the first answer counts. An exception, a run beyond `timeout_s` or the death of the process costs the
    task one attempt.
    """

    def __call__(self, task: Task, /) -> Answer | Awaitable[Answer]: ...


def checked_result(answer: object, limit_bytes: int = ANSWER_LIMIT_BYTES) -> Answer:
    """Return the answer if it keeps the contract, with safe reasons and `Later` within its limits.

    Subclasses of bytes (such as HexBytes) become bytes.

    Raises:
        AttemptFailed: it does not; the message says what to return instead.
    """
    if isinstance(answer, bytes):
        if len(answer) > limit_bytes:
            raise AttemptFailed(f"the hook returned {len(answer):,} bytes; the limit is {limit_bytes:,}")
        return bytes(memoryview(answer))
    if isinstance(answer, Skip):
        return Skip(_reason(answer.reason))
    if isinstance(answer, Later):
        return _later(answer)
    raise AttemptFailed(f"the hook returned {_kind(answer)}; {_advice(answer)}")


def _later(answer: Later) -> Later:
    blocks, seconds = answer.blocks, answer.seconds
    if type(blocks) is not int or blocks < 0:
        raise AttemptFailed("Later(blocks=...) must be a whole number of blocks, 0 or more")
    if type(seconds) not in (int, float) or not math.isfinite(seconds) or seconds < 0:
        raise AttemptFailed("Later(seconds=...) must be a finite number of seconds, 0 or more")
    if blocks == 0 and seconds == 0:
        raise AttemptFailed("Later() does not say when; give blocks or seconds above 0")
    return Later(min(blocks, LATER_LIMIT_BLOCKS), min(float(seconds), LATER_LIMIT_S), _reason(answer.reason))


def _reason(reason: object) -> str:
    if not isinstance(reason, str):
        raise AttemptFailed(f"the reason of Skip and Later is a str, not {_kind(reason)}")
    return clean(reason)


def _kind(value: object) -> str:
    if value is None:
        return "nothing (None)"
    if isinstance(value, type):
        return f"the class {clean(value.__name__, 100)}"
    return clean(type(value).__name__, 100)


def _advice(value: object) -> str:
    """Return what to write instead, for the frequent mistakes."""
    if isinstance(value, str):
        return "return bytes: bytes.fromhex(text.removeprefix('0x')) for hex, text.encode() for text"
    if isinstance(value, bytearray | memoryview):
        return "wrap it in bytes(...)"
    if isinstance(value, int):
        return "return bytes: number.to_bytes(32, 'big') for a uint256"
    if isinstance(value, type) and issubclass(value, Skip | Later):
        return "call it: Skip('why'), Later(blocks=5)"
    if inspect.isawaitable(value):
        return "declare the hook `async def` so that it is awaited"
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        return "use `return`, not `yield`"
    return "return bytes, Skip('why') or Later(blocks=..., seconds=...)"
