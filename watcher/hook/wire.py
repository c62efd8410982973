"""What daemon and worker say to each other: JSON objects, each after its length in four bytes, big-endian.

Pure. Invariant: what comes from a worker is hostile; every `read_*` returns a value of the right kind or raises
BrokenFrame, whatever the bytes. Byte strings travel as hex.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from watcher import files as watcher_files
from watcher.errors import AttemptFailed, WatcherError
from watcher.hook.protocol import Answer, checked_result
from watcher.task import Later, Sighting, Skip, Task
from watcher.text import clean

_BYTES = "0x"


def to_json(value: Any) -> Any:
    """What stands for the value in a frame."""
    if isinstance(value, bytes):
        return {_BYTES: value.hex()}
    if isinstance(value, Mapping):
        return {name: to_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(one) for one in value]
    return value


def from_json(value: Any) -> Any:
    """The value again. Raises ValueError for hex that is none."""
    if isinstance(value, dict):
        if value.keys() == {_BYTES}:
            return bytes.fromhex(value[_BYTES])
        return {name: from_json(one) for name, one in value.items()}
    if isinstance(value, list):
        return [from_json(one) for one in value]
    return value


LENGTH = struct.Struct(">I")
# How a worker exits that has lost its channel (os.EX_OSERR).
CHANNEL_LOST = 71
# How a worker exits that has no memory left for a reply.
NO_MEMORY = 72
# Beside the answer itself: keys, reasons, the words of a failure, the names of source files.
_ROOM_BYTES = 1 << 20

_FILES_LIMIT = 2_000
_PATH_LIMIT_CHARS = 4096

Fields = Mapping[str, object]


class BrokenMessage(WatcherError):
    """The other side does not speak this protocol; the process behind it is of no more use."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The daemon's first frame to a worker: which hook to load, from where, and what to keep it from.

    `landlock` and `hidden` as in `watcher.hook.sandbox`; `memory_mb` in MiB, 0 for no limit.
    """

    target: str
    app_dir: str
    answer_limit_bytes: int
    landlock: str = "auto"
    hidden: tuple[str, ...] = ()
    memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """The hook is loaded. `version` names its source; `files` maps path to SHA-256 (`watcher.hook.sources`).

    `exposed` says why the worker can reach what it should not (`watcher.hook.sandbox`); empty where it cannot.
    """

    version: str
    files: Mapping[str, str] = field(default_factory=dict)
    exposed: str = ""


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """The hook cannot be loaded; the words say why. `may_pass`: it is worth another try, nobody has to change it."""

    words: str
    may_pass: bool = False


def frame_limit_bytes(answer_limit_bytes: int) -> int:
    """Return the longest frame a worker may send: the answer as hex, and some room."""
    return 2 * answer_limit_bytes + _ROOM_BYTES


def pack(fields: Fields) -> bytes:
    """Return the frame that carries `fields`."""
    body = json.dumps(fields, separators=(",", ":")).encode()
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> Fields:
    """Return the object inside a frame. Raises BrokenFrame."""
    try:
        fields = watcher_files.parse(body)
    except ValueError:
        raise BrokenMessage("not JSON") from None
    if not isinstance(fields, dict):
        raise BrokenMessage("not an object")
    return fields


def length(head: bytes, limit_bytes: int) -> int:
    """Return the length a frame's first four bytes announce. Raises BrokenFrame beyond the limit."""
    (size,) = LENGTH.unpack(head)
    if size > limit_bytes:
        raise BrokenMessage(f"a frame of {size:,} bytes; the limit is {limit_bytes:,}")
    return int(size)


def write_load(order: LoadRequest) -> Fields:
    return asdict(order)


def read_load(fields: Fields) -> LoadRequest:
    hidden = fields.get("hidden")
    if not isinstance(hidden, list) or not all(isinstance(path, str) for path in hidden):
        raise BrokenMessage("hidden is not a list of paths")
    return LoadRequest(
        _text(fields, "target"),
        _text(fields, "app_dir"),
        _int(fields, "answer_limit_bytes"),
        _text(fields, "landlock"),
        tuple(hidden),
        _int(fields, "memory_mb"),
    )


def write_start(start: Ready | NotLoaded) -> Fields:
    if isinstance(start, NotLoaded):
        return {"not_loaded": start.words, "may_pass": start.may_pass}
    return {"version": start.version, "exposed": start.exposed, **write_files(start.files)}


def read_start(fields: Fields) -> Ready | NotLoaded:
    if "not_loaded" in fields:
        # One problem may list names and places; more than two reasons' worth is noise.
        return NotLoaded(clean(_text(fields, "not_loaded"), 2000), fields.get("may_pass") is True)
    return Ready(clean(_text(fields, "version"), 300), read_files(fields), clean(_text(fields, "exposed")))


def write_files(files: Mapping[str, str]) -> Fields:
    """Return the part of a frame that names loaded files; nothing where there are none. Cut to the limits."""
    known = ((path, digest) for path, digest in files.items() if len(path) <= _PATH_LIMIT_CHARS)
    return {"files": dict(islice(known, _FILES_LIMIT))} if files else {}


def read_files(fields: Fields) -> Mapping[str, str]:
    """Return path and SHA-256 in hex of the files a worker has loaded since its last frame. Raises BrokenFrame."""
    given = fields.get("files", {})
    if not isinstance(given, dict) or len(given) > _FILES_LIMIT:
        raise BrokenMessage("files are not a table of some paths")
    for path, digest in given.items():
        if len(path) > _PATH_LIMIT_CHARS or not isinstance(digest, str) or len(digest) != 64:
            raise BrokenMessage("a file without its hash")
    return given


def write_task(run: int, task: Task) -> Fields:
    seen = task.seen_at
    return {
        "run": run,
        "chain_id": task.chain_id,
        "task_manager": task.task_manager.hex(),
        "task_index": task.task_index,
        "task_hash": task.task_hash.hex(),
        "created_block": task.created_block,
        "message": task.message.hex(),
        "quorum_numbers": task.quorum_numbers.hex(),
        "quorum_threshold": task.quorum_threshold,
        "deadline_block": task.deadline_block,
        "deadline_s": task.deadline_s,
        "fields": to_json(task.fields),
        "seen_at": [seen.block_number, seen.block_hash.hex(), seen.tx_hash.hex(), seen.log_index],
    }


def read_task(fields: Fields) -> tuple[int, Task]:
    """Return the number of the run and its task."""
    seen = fields.get("seen_at")
    if not isinstance(seen, list) or len(seen) != 4:
        raise BrokenMessage("no sighting")
    place = dict(zip(("block_number", "block_hash", "tx_hash", "log_index"), seen, strict=True))
    task = Task(
        chain_id=_int(fields, "chain_id"),
        task_manager=_bytes(fields, "task_manager"),
        task_index=_int(fields, "task_index"),
        task_hash=_bytes(fields, "task_hash"),
        created_block=_int(fields, "created_block"),
        message=_bytes(fields, "message"),
        quorum_numbers=_bytes(fields, "quorum_numbers"),
        quorum_threshold=_int(fields, "quorum_threshold"),
        deadline_block=None if fields.get("deadline_block") is None else _int(fields, "deadline_block"),
        deadline_s=None if fields.get("deadline_s") is None else _int(fields, "deadline_s"),
        fields=_values(fields),
        seen_at=Sighting(
            _int(place, "block_number"), _bytes(place, "block_hash"), _bytes(place, "tx_hash"), _int(place, "log_index")
        ),
    )
    return _int(fields, "run"), task


def _values(fields: Fields) -> dict[str, object]:
    given = fields.get("fields")
    if not isinstance(given, dict):
        raise BrokenMessage("no fields")
    try:
        return {name: from_json(one) for name, one in given.items()}
    except (ValueError, TypeError):
        raise BrokenMessage("fields that cannot be read") from None


def write_answer(run: int, answer: Answer) -> Fields:
    if isinstance(answer, Skip):
        return {"run": run, "skip": answer.reason}
    if isinstance(answer, Later):
        return {"run": run, "later": [answer.blocks, answer.seconds, answer.reason]}
    return {"run": run, "answer": answer.hex()}


def write_failure(run: int, words: str, *, is_last: bool = False) -> Fields:
    """`is_last`: the worker wants no further task."""
    return {"run": run, "failed": words, **({"last": True} if is_last else {})}


def is_last(fields: Fields) -> bool:
    """Return True if the worker wants no further task."""
    return fields.get("last") is True


def read_run(fields: Fields) -> int:
    """Return which run a reply belongs to."""
    return _int(fields, "run")


def read_answer(fields: Fields, limit_bytes: int) -> Answer:
    """Return what the hook answered, judged again on this side. Raises AttemptFailed for a failure, BrokenFrame."""
    if "failed" in fields:
        raise AttemptFailed(clean(_text(fields, "failed"), 1200))
    if "skip" in fields:
        return checked_result(Skip(_text(fields, "skip")))
    if "later" in fields:
        later = fields["later"]
        if not isinstance(later, list) or len(later) != 3:
            raise BrokenMessage("a Later of the wrong shape")
        return checked_result(Later(*later))
    return checked_result(_bytes(fields, "answer"), limit_bytes)


def _int(fields: Fields, key: str) -> int:
    value = fields.get(key)
    if type(value) is not int:
        raise BrokenMessage(f"{key} is not a whole number")
    return value


def _text(fields: Fields, key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise BrokenMessage(f"{key} is not text")
    return value


def _bytes(fields: Fields, key: str) -> bytes:
    text = _text(fields, key)
    try:
        value = bytes.fromhex(text)
    except ValueError:
        raise BrokenMessage(f"{key} is not hex") from None
    if len(text) != 2 * len(value):  # fromhex lets white space pass
        raise BrokenMessage(f"{key} is not hex")
    return value
