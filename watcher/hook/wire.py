"""What daemon and worker say to each other: JSON objects, each after its length in four bytes, big-endian.

Pure. Invariant: what comes from a worker is hostile; every `read_*` returns a value of the right kind or raises
BrokenFrame, whatever the bytes. Byte strings travel as hex.
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


# The fields of a task that travel one by one, with their types; the log stays in the daemon.
_PLAIN_FIELDS = {one.name: one.type for one in fields_of(Task) if one.name not in ("seen_at", "fields", "log")}
_SIGHTING_FIELDS = {one.name: one.type for one in fields_of(Sighting)}


def write_task(run: int, task: Task) -> Fields:
    """Return the request to run the hook on `task`; `run` numbers it."""
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
    return {name: one.hex() if isinstance(one, bytes) else one for name, one in plain.items()}


def _read_plain(fields: Fields, types: Mapping[str, object]) -> dict[str, Any]:
    return {name: _READERS[kind](fields, name) for name, kind in types.items()}


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


def _int_or_none(fields: Fields, key: str) -> int | None:
    return None if fields.get(key) is None else _int(fields, key)


# How a plain field is read, by its type.
_READERS: Mapping[object, Callable[[Fields, str], object]] = {int: _int, int | None: _int_or_none, bytes: _bytes}
