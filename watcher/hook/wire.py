"""The messages between daemon and worker: JSON objects, each after its length in four bytes, big-endian. Pure.

Invariant: messages of a worker are hostile; for any bytes every `read_*` returns a value of the right type or raises
BrokenMessage. Byte strings travel as hex.
"""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from dataclasses import fields as fields_of
from itertools import islice
from typing import Any

from watcher import files as watcher_files
from watcher.errors import AttemptFailed, WatcherError
from watcher.hook.protocol import Answer, checked_result
from watcher.task import Later, Sighting, Skip, Task
from watcher.text import clean

_BYTES = "0x"


def to_json(value: Any) -> Any:
    """Return the JSON form of a value: bytes become `{"0x": hex}`."""
    if isinstance(value, bytes):
        return {_BYTES: value.hex()}
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def from_json(value: Any) -> Any:
    """Return the value of a JSON form. Raises ValueError for malformed hex."""
    if isinstance(value, dict):
        if value.keys() == {_BYTES}:
            return bytes.fromhex(value[_BYTES])
        return {name: from_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return value


LENGTH = struct.Struct(">I")
# Exit codes of a worker that has lost its channel (os.EX_OSERR), or has no memory left for a reply.
CHANNEL_LOST = 71
NO_MEMORY = 72
# The room beside the answer: keys, reasons, the text of a failure, the names of source files.
_ROOM_BYTES = 1 << 20

_FILES_LIMIT = 2_000
_PATH_LIMIT_CHARS = 4096

Fields = Mapping[str, object]


class BrokenMessage(WatcherError):
    """The message does not follow the protocol; the process that sent it must not be used again."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The daemon's first message to a worker: the hook to load, and the limits of its process.

    `landlock` and `hidden` as in `watcher.hook.sandbox`; `memory_mb` in MiB, 0: no limit.
    """

    target: str
    app_dir: str
    answer_limit_bytes: int
    landlock: str = "auto"
    hidden: tuple[str, ...] = ()
    memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """A loaded hook: its version, and the SHA-256 (hex) of each source file by path (`watcher.hook.sources`).

    `exposed` says why the worker can reach hidden paths (`watcher.hook.sandbox`); "": it cannot.
    """

    version: str
    files: Mapping[str, str] = field(default_factory=dict)
    exposed: str = ""


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """A hook that cannot be loaded. `may_pass`: the system failed and not the code, so a retry may succeed."""

    reason: str
    may_pass: bool = False


def message_limit_bytes(answer_limit_bytes: int) -> int:
    """Return the length of the longest message of a worker: the answer as hex, and room for the rest."""
    return 2 * answer_limit_bytes + _ROOM_BYTES


def pack(fields: Fields) -> bytes:
    """Return the bytes of a message."""
    body = json.dumps(fields, separators=(",", ":")).encode()
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> Fields:
    """Return the fields of a message's body. Raises BrokenMessage if it is no JSON object."""
    try:
        fields = watcher_files.parse(body)
    except ValueError:
        raise BrokenMessage("not JSON") from None
    if not isinstance(fields, dict):
        raise BrokenMessage("not an object")
    return fields


def length(head: bytes, limit_bytes: int) -> int:
    """Return the body's length from a message's first four bytes. Raises BrokenMessage beyond the limit."""
    (size,) = LENGTH.unpack(head)
    if size > limit_bytes:
        raise BrokenMessage(f"a message of {size:,} bytes; the limit is {limit_bytes:,}")
    return int(size)


def write_load(request: LoadRequest) -> Fields:
    return asdict(request)


def read_load(fields: Fields) -> LoadRequest:
    return LoadRequest(**_read_plain(fields, {item.name: item.type for item in fields_of(LoadRequest)}))


def write_start(start: Ready | NotLoaded) -> Fields:
    if isinstance(start, NotLoaded):
        return {"not_loaded": start.reason, "may_pass": start.may_pass}
    return {"version": start.version, "exposed": start.exposed, **write_files(start.files)}


def read_start(fields: Fields) -> Ready | NotLoaded:
    if "not_loaded" in fields:
        # A problem may list names and places, so it gets more room than a reason.
        return NotLoaded(clean(_text(fields, "not_loaded"), 2000), fields.get("may_pass") is True)
    return Ready(clean(_text(fields, "version"), 300), read_files(fields), clean(_text(fields, "exposed")))


def write_files(files: Mapping[str, str]) -> Fields:
    """Return the part of a message that names loaded files, cut to the limits; {} if there are none."""
    short = ((path, digest) for path, digest in files.items() if len(path) <= _PATH_LIMIT_CHARS)
    return {"files": dict(islice(short, _FILES_LIMIT))} if files else {}


def read_files(fields: Fields) -> Mapping[str, str]:
    """Return path and SHA-256 (hex) of the files that a worker has loaded since its last message.

    Raises:
        BrokenMessage: they are no table of paths and hashes, or too many.
    """
    files = fields.get("files", {})
    if not isinstance(files, dict) or len(files) > _FILES_LIMIT:
        raise BrokenMessage("files are not a table of some paths")
    for path, digest in files.items():
        if len(path) > _PATH_LIMIT_CHARS or not isinstance(digest, str) or len(digest) != 64:
            raise BrokenMessage("a file without its hash")
    return files


# The fields of a task that travel one by one, by type. The log stays in the daemon.
_PLAIN_FIELDS = {item.name: item.type for item in fields_of(Task) if item.name not in ("seen_at", "fields", "log")}
_SIGHTING_FIELDS = {item.name: item.type for item in fields_of(Sighting)}


def write_task(run: int, task: Task) -> Fields:
    """Return the request to run the hook on a task; `run` is its number."""
    seen_at = list(_write_plain(task.seen_at, _SIGHTING_FIELDS).values())
    return {"run": run, **_write_plain(task, _PLAIN_FIELDS), "fields": to_json(task.fields), "seen_at": seen_at}


def read_task(fields: Fields) -> tuple[int, Task]:
    """Return the number of the run and its task. Raises BrokenMessage."""
    seen = fields.get("seen_at")
    if not isinstance(seen, list) or len(seen) != len(_SIGHTING_FIELDS):
        raise BrokenMessage("no sighting")
    seen_at = Sighting(**_read_plain(dict(zip(_SIGHTING_FIELDS, seen, strict=True)), _SIGHTING_FIELDS))
    task = Task(**_read_plain(fields, _PLAIN_FIELDS), fields=_values(fields), seen_at=seen_at)
    return _int(fields, "run"), task


def _write_plain(value: object, types: Mapping[str, object]) -> dict[str, object]:
    plain = {name: getattr(value, name) for name in types}
    return {name: item.hex() if isinstance(item, bytes) else item for name, item in plain.items()}


def _read_plain(fields: Fields, types: Mapping[str, object]) -> dict[str, Any]:
    return {name: _READERS[kind](fields, name) for name, kind in types.items()}


def _values(fields: Fields) -> dict[str, object]:
    values = fields.get("fields")
    if not isinstance(values, dict):
        raise BrokenMessage("no fields")
    try:
        return {name: from_json(item) for name, item in values.items()}
    except (ValueError, TypeError):
        raise BrokenMessage("fields that cannot be read") from None


def write_answer(run: int, answer: Answer) -> Fields:
    if isinstance(answer, Skip):
        return {"run": run, "skip": answer.reason}
    if isinstance(answer, Later):
        return {"run": run, "later": [answer.blocks, answer.seconds, answer.reason]}
    return {"run": run, "answer": answer.hex()}


def write_failure(run: int, reason: str, *, is_last: bool = False) -> Fields:
    """Return the reply of a run that failed. `is_last`: the worker takes no further task."""
    return {"run": run, "failed": reason, **({"last": True} if is_last else {})}


def is_last(fields: Fields) -> bool:
    """Return True if the worker takes no further task."""
    return fields.get("last") is True


def read_run(fields: Fields) -> int:
    """Return the number of the run that a reply belongs to."""
    return _int(fields, "run")


def read_answer(fields: Fields, limit_bytes: int) -> Answer:
    """Return the hook's answer from a reply, checked again on this side.

    Raises:
        AttemptFailed: the run failed.
        BrokenMessage: it is no reply to a run.
    """
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
    if len(text) != 2 * len(value):  # fromhex ignores white space.
        raise BrokenMessage(f"{key} is not hex")
    return value


def _texts(fields: Fields, key: str) -> tuple[str, ...]:
    values = fields.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise BrokenMessage(f"{key} is not a list of texts")
    return tuple(values)


def _int_or_none(fields: Fields, key: str) -> int | None:
    return None if fields.get(key) is None else _int(fields, key)


# The reader of a plain field, by its type.
_READERS: Mapping[object, Callable[[Fields, str], object]] = {
    int: _int,
    int | None: _int_or_none,
    bytes: _bytes,
    str: _text,
    tuple[str, ...]: _texts,
}
