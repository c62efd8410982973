"""The messages between daemon and worker: load this hook, run it on this task, and the replies. Pure.

Invariant: messages of a worker are hostile; for any fields every `read_*` returns a value of the right type or raises
BrokenMessage (`watcher.hook.wire`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from dataclasses import fields as fields_of
from itertools import islice
from typing import Any

from watcher.errors import AttemptFailed, FixConfiguration, TryLater
from watcher.hook import wire
from watcher.hook.protocol import Answer, checked_result
from watcher.hook.values import ValueTypes
from watcher.task import Later, Sighting, Skip, Task
from watcher.text import LINE_LIMIT, clean

# The room beside the answer: keys, reasons, the text of a failure, the names of source files.
_ROOM_BYTES = 1 << 20

# The end of a longer traceback, which names the error, is kept.
TRACEBACK_LIMIT_CHARS = 65_536
_FILES_LIMIT = 2_000
_PATH_LIMIT_CHARS = 4096


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The daemon's first message to a worker: the hook to load, and the limits of its process.

    `landlock` and `hidden` as in `watcher.hook.sandbox`; `memory_mb` in MiB, 0: no limit. `tracebacks`: a failure comes
    with its traceback. The types are those of `watcher.hook.values`. `with_label`: the reply has a label.
    `background`: as `watcher.hook.background` has it.
    """

    target: str
    app_dir: str
    answer_limit_bytes: int
    landlock: str = "auto"
    hidden: tuple[str, ...] = ()
    memory_mb: int = 0
    tracebacks: bool = False
    message_type: str = ""
    response_type: str = ""
    with_label: bool = True
    background: bool = False

    @property
    def types(self) -> ValueTypes:
        """Return the types of messages and answers."""
        return ValueTypes(self.message_type, self.response_type)


@dataclass(frozen=True, slots=True)
class Ready:
    """A loaded hook: its version, and the SHA-256 (hex) of each source file by path (`watcher.hook.sources`).

    `label` is the version to be recorded (`watcher.hook.version`), "" if the request did not ask for it. `exposed`
    says why the worker can reach hidden paths (`watcher.hook.sandbox`); "": it cannot.
    """

    version: str
    files: Mapping[str, str] = field(default_factory=dict)
    exposed: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """A hook that cannot be loaded. `may_pass`: the system failed and not the code, so a retry may succeed.

    `traceback` as in `watcher.errors.WatcherError`.
    """

    reason: str
    may_pass: bool = False
    traceback: str = ""

    @property
    def error(self) -> FixConfiguration | TryLater:
        """Return the error to raise."""
        error = (TryLater if self.may_pass else FixConfiguration)(self.reason)
        error.traceback = self.traceback
        return error


def message_limit_bytes(answer_limit_bytes: int) -> int:
    """Return the length of the longest message of a worker: the answer as hex, and room for the rest."""
    return 2 * answer_limit_bytes + _ROOM_BYTES


def write_load(request: LoadRequest) -> wire.Fields:
    return asdict(request)


def read_load(fields: wire.Fields) -> LoadRequest:
    return LoadRequest(**_read_plain(fields, {item.name: item.type for item in fields_of(LoadRequest)}))


def write_start(start: Ready | NotLoaded) -> wire.Fields:
    if isinstance(start, NotLoaded):
        return {"not_loaded": start.reason, "may_pass": start.may_pass, **_write_traceback(start.traceback)}
    texts = {"version": start.version, "exposed": start.exposed, "label": start.label}
    return {**texts, **write_files(start.files)}


def read_start(fields: wire.Fields) -> Ready | NotLoaded:
    if "not_loaded" in fields:
        # A problem may list names and places, so it gets more room than a reason.
        reason = clean(wire.text(fields, "not_loaded"), 2000)
        return NotLoaded(reason, fields.get("may_pass") is True, _read_traceback(fields))
    version, label = (clean(wire.text(fields, name), 300) for name in ("version", "label"))
    return Ready(version, read_files(fields), clean(wire.text(fields, "exposed")), label)


def write_files(files: Mapping[str, str]) -> wire.Fields:
    """Return the part of a message that names loaded files, cut to the limits; {} if there are none."""
    short = ((path, digest) for path, digest in files.items() if len(path) <= _PATH_LIMIT_CHARS)
    return {"files": dict(islice(short, _FILES_LIMIT))} if files else {}


def read_files(fields: wire.Fields) -> Mapping[str, str]:
    """Return path and SHA-256 (hex) of the files that a worker has loaded since its last message.

    Raises:
        BrokenMessage: they are no table of paths and hashes, or too many.
    """
    files = fields.get("files", {})
    if not isinstance(files, dict) or len(files) > _FILES_LIMIT:
        raise wire.BrokenMessage("files are not a table of some paths")
    for path, digest in files.items():
        if len(path) > _PATH_LIMIT_CHARS or not isinstance(digest, str) or len(digest) != 64:
            raise wire.BrokenMessage("a file without its hash")
    return files


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """The request to run the hook on one task; several travel in one write.

    Attributes:
        run: the number of the run.
        task: the task.
        begin_by_s: the time of the monotonic clock, in seconds, from which the run must not begin; None: none.
        is_marked: write the mark of the run into the output after it, because another run follows at once.
    """

    run: int
    task: Task
    begin_by_s: float | None = None
    is_marked: bool = False


def output_mark(run: int) -> bytes:
    """Return the 16 bytes that follow the output of a run in the worker's output."""
    return b"\0%014x\n" % run


def write_task(request: TaskRequest) -> wire.Fields:
    """Return the message to the worker. The log stays in the daemon."""
    task, place = request.task, request.task.seen_at
    return {
        "run": request.run,
        "begin_by_s": request.begin_by_s,
        "marked": request.is_marked,
        "task": [
            task.chain_id,
            task.task_manager.hex(),
            task.task_index,
            task.task_hash.hex(),
            task.created_block,
            task.message.hex(),
            task.quorum_numbers.hex(),
            task.quorum_threshold,
            task.deadline_block,
            task.deadline_s,
        ],
        "seen_at": [place.block_number, place.block_hash.hex(), place.tx_hash.hex(), place.log_index],
        "fields": wire.to_json(task.fields),
    }


def read_task(fields: Mapping[str, Any]) -> TaskRequest:
    """Return the request to run the hook on a task, from a message of the daemon. Raises BrokenMessage."""
    try:
        chain_id, manager, index, task_hash, created_block, message, quorums, threshold, block, time_s = fields["task"]
        height, block_hash, tx_hash, log_index = fields["seen_at"]
        task = Task(
            chain_id,
            bytes.fromhex(manager),
            index,
            bytes.fromhex(task_hash),
            created_block,
            bytes.fromhex(message),
            bytes.fromhex(quorums),
            threshold,
            block,
            Sighting(height, bytes.fromhex(block_hash), bytes.fromhex(tx_hash), log_index),
            deadline_s=time_s,
            fields=fields["fields"],
        )
        return TaskRequest(fields["run"], task, fields["begin_by_s"], fields["marked"])
    except (KeyError, TypeError, ValueError):
        raise wire.BrokenMessage("no request to run the hook") from None


def _read_plain(fields: wire.Fields, types: Mapping[str, object]) -> dict[str, Any]:
    return {name: wire.READERS[kind](fields, name) for name, kind in types.items()}


def write_answer(run: int, answer: Answer) -> wire.Fields:
    if isinstance(answer, Skip):
        return {"run": run, "skip": answer.reason}
    if isinstance(answer, Later):
        return {"run": run, "later": [answer.blocks, answer.seconds, answer.reason]}
    return {"run": run, "answer": answer.hex()}


def write_failure(run: int, reason: str, *, is_last: bool = False, traceback: str = "") -> wire.Fields:
    """Return the reply of a run that failed. `is_last`: the worker takes no further task."""
    return {"run": run, "failed": reason, **({"last": True} if is_last else {}), **_write_traceback(traceback)}


def _write_traceback(traceback: str) -> wire.Fields:
    return {"traceback": traceback[-TRACEBACK_LIMIT_CHARS:]} if traceback else {}


def _read_traceback(fields: wire.Fields) -> str:
    """Return the traceback in a message, each of its lines safe to print; "" without one."""
    traceback = wire.text(fields, "traceback") if "traceback" in fields else ""
    return "\n".join(clean(line, LINE_LIMIT) for line in traceback[-TRACEBACK_LIMIT_CHARS:].split("\n"))


def write_not_begun(run: int) -> wire.Fields:
    """Return the reply of a run that came to its turn after `begin_by_s`, and so did not begin."""
    return {"run": run, "not_begun": True}


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a run.

    Attributes:
        answer: the answer, or why there is none; None: the run did not begin.
        duration_us: the duration of the run by the worker's own account, in microseconds.
        files: path and SHA-256 (hex) of the files that the worker has loaded since its last message.
        is_last: the worker takes no further task.
    """

    answer: Answer | AttemptFailed | None
    duration_us: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    is_last: bool = False


def write_reply(result: wire.Fields, duration_us: int, files: Mapping[str, str]) -> wire.Fields:
    """Return the complete reply of a run: its result, with the duration and the files that the worker has loaded."""
    return {**result, "us": duration_us, **write_files(files)}


def read_reply(fields: wire.Fields, limit_bytes: int) -> Reply:
    """Return the reply to a run. Raises BrokenMessage if it is none."""
    if fields.get("not_begun") is True:
        return Reply(None)
    try:
        answer: Answer | AttemptFailed = read_answer(fields, limit_bytes)
    except AttemptFailed as failure:
        answer = failure
    return Reply(answer, wire.integer(fields, "us"), read_files(fields), is_last(fields))


def is_last(fields: wire.Fields) -> bool:
    """Return True if the worker takes no further task."""
    return fields.get("last") is True


def read_run(fields: wire.Fields) -> int:
    """Return the number of the run that a reply belongs to."""
    return wire.integer(fields, "run")


def read_answer(fields: wire.Fields, limit_bytes: int) -> Answer:
    """Return the hook's answer from a reply, checked again on this side.

    Raises:
        AttemptFailed: the run failed.
        BrokenMessage: it is no reply to a run.
    """
    if "failed" in fields:
        failure = AttemptFailed(clean(wire.text(fields, "failed"), 1200))
        failure.traceback = _read_traceback(fields)
        raise failure
    if "skip" in fields:
        return checked_result(Skip(wire.text(fields, "skip")))
    if "later" in fields:
        later = fields["later"]
        if not isinstance(later, list) or len(later) != 3:
            raise wire.BrokenMessage("a Later of the wrong shape")
        return checked_result(Later(*later))
    return checked_result(wire.byte_string(fields, "answer"), limit_bytes)
