"""The story of one task: where it stands and why, its way through the states, its attempts, message and answers.

Pure: `tell` turns records of the ledger and a cause into one frozen value, from which `watcher explain` makes its
screen and its JSON. The field names are an interface: fields are added, never renamed or removed.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.engine import Row

from watcher.ledger.cursor import Cursor
from watcher.ledger.rows import task_of
from watcher.ledger.story import TaskRecord
from watcher.report.listing import hexed, second_of, time_of
from watcher.report.payload import Decoder, Payload
from watcher.state import ENDED, State
from watcher.text import duration_text

# The key of the condition in whose time the API is probed.
_API = "operator-api"
# The longest reply of an API that is shown; the ledger has the rest.
_REPLY_LIMIT_BYTES = 2000
# Reasons of our own that name the block of the reading.
_READ_AT_BLOCK = frozenset({State.READY, State.FINAL, State.FINAL_OTHER})
_BLOCK = re.compile(r"\bat block (\d+)$")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a task is in its state now.

    Attributes:
        reason: the cause as a sentence without its end.
        since_ms: since when it holds, in milliseconds since 1970; None: since the task entered its state.
        next_ms: when the task is looked at or tried again, likewise; None: no time is set.
        next_block: the block at which it is.
        condition: the key of the condition that holds it up, a row of docs/alerts.md; "": none.
        advice: what a person can do; "": nothing is to be done.
    """

    reason: str
    since_ms: int | None = None
    next_ms: int | None = None
    next_block: int | None = None
    condition: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One state of a task's way. `duration_ms` is the time spent in it; of the present state so far, None at an end.

    `block` is the block of the log, the reading or the response that led to the state, None where none did.
    """

    state: str
    at: str | None
    duration_ms: int | None
    block: int | None
    why: str


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One attempt: a run of the hook, or a POST. `outcome` is None while it runs, or if it was cut off.

    `request_digest` is the SHA-256 of the request without its id; `reply` the begin of the API's body as text.
    `tx_hash` and `sig_hash` are claims of the API.
    """

    kind: str
    number: int
    api: str | None
    began_at: str | None
    duration_ms: int | None
    outcome: str | None
    http_status: int | None
    code: int | None
    reason: str
    request_digest: str | None
    reply: str
    tx_hash: str | None
    sig_hash: str | None


@dataclass(frozen=True, slots=True)
class ChainAnswer:
    """A response event. `by` is "us" or "another", by its bytes; `counts`: it is the one that the ledger goes by.

    `sender` is the address that sent the transaction, `at` the time of the block; None until a node has shown them.
    """

    by: str
    block_number: int
    tx_hash: str | None
    answer: Payload
    counts: bool
    sender: str | None = None
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """The story of one task at one moment. Times are ISO 8601 in UTC, durations milliseconds, bytes 0x hex.

    `since`, `next_at` (`next_s` seconds from now), `next_block`, `condition` and `advice` belong to `reason`.
    `blocks_left` and `seconds_left` count to the deadline, negative behind it. `unknown` says which facts are missing,
    and why. `block_at` is the time of the task's block, None until a node has shown it.
    """

    chain_id: int
    task_manager: str
    task_index: int
    task_hash: str
    state: str
    canonical: bool
    at: str | None
    reason: str
    since: str | None
    next_at: str | None
    next_s: float | None
    next_block: int | None
    condition: str
    advice: str
    unknown: str
    deadline_block: int | None
    deadline_at: str | None
    blocks_left: int | None
    seconds_left: float | None
    head_block: int
    final_block: int
    cursor_block: int
    task_created_block: int
    block_number: int
    created_tx_hash: str | None
    message: Payload
    fields: dict[str, Any]
    answer: Payload | None
    hook_version: str | None
    chain_answers: tuple[ChainAnswer, ...]
    timeline: tuple[Step, ...]
    attempts: tuple[AttemptLine, ...]
    block_at: str | None = None

    @property
    def summary(self) -> str:
        """The present in one line: the reason, since when, the time that is left, the next try, and what to do."""
        parts = [f"{self.reason} since {self.since[11:16]}" if self.since else self.reason]
        if self.blocks_left is not None:
            left = self.blocks_left
            blocks = f"{abs(left)} block{'' if abs(left) == 1 else 's'}"
            parts.append(f"{blocks} left" if left >= 0 else f"{blocks} past the deadline")
        if self.seconds_left is not None:
            left_ms = 1000 * self.seconds_left
            is_late = left_ms < 0
            parts.append(f"{duration_text(abs(left_ms))} " + ("past the deadline" if is_late else "left"))
        if self.next_s is not None:
            kind = "probe" if self.condition == _API else "try"
            parts.append(f"next {kind} in {duration_text(1000 * self.next_s)}")
        if self.next_block is not None:
            parts.append(f"next look at block {self.next_block}")
        if self.advice:
            parts.append(f"do: {self.advice}")
        return "; ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Return the object that `watcher explain --json` prints."""
        return {**asdict(self), "summary": self.summary}


def tell(
    record: TaskRecord, cursor: Cursor, cause: Cause, decoder: Decoder, now_ms: int, *, unknown: str = ""
) -> Story:
    """Return the story of a task.

    Args:
        record: the task as the ledger holds it.
        cursor: the marks of its source.
        cause: why it is in its state.
        decoder: the types of its message and its answers.
        now_ms: the present time in milliseconds since 1970.
        unknown: the facts that are missing.
    """
    row = record.task
    since_ms = cause.since_ms if cause.since_ms is not None else _entered_ms(record)
    answered = row.state in (State.RESPONDED, State.RESPONDED_OTHER) or row.state in ENDED
    return Story(
        chain_id=row.chain_id,
        task_manager=hexed(row.task_manager) or "",
        task_index=row.task_index,
        task_hash=hexed(row.task_hash) or "",
        state=row.state,
        canonical=row.canonical,
        at=time_of(now_ms),
        reason=cause.reason,
        since=time_of(since_ms),
        next_at=time_of(cause.next_ms),
        next_s=None if cause.next_ms is None else (cause.next_ms - now_ms) / 1000,
        next_block=cause.next_block,
        condition=cause.condition,
        advice=cause.advice,
        unknown=unknown,
        deadline_block=row.deadline_block,
        deadline_at=second_of(row.deadline_s),
        blocks_left=None if answered else blocks_left(row, cursor),
        seconds_left=None if answered or row.deadline_s is None else row.deadline_s - now_ms / 1000,
        head_block=cursor.head_block,
        final_block=cursor.final_block,
        cursor_block=cursor.block,
        task_created_block=row.created_block,
        block_number=row.block_number,
        created_tx_hash=hexed(row.created_tx_hash),
        message=decoder.payload_of_message(row.message),
        fields=decoder.fields_of(task_of(row)),
        answer=None if row.response is None else decoder.payload_of_answer(row.response),
        hook_version=row.hook_version,
        chain_answers=tuple(_chain_answer(event, row, decoder) for event in record.responses),
        timeline=tuple(_steps(record, now_ms)),
        attempts=tuple(map(_attempt, record.attempts)),
        block_at=second_of(row.block_time_s),
    )


def blocks_left(row: Row[Any], cursor: Cursor) -> int | None:
    """Return the blocks to the deadline of a task, as the contract counts them; None without a deadline block."""
    return None if row.deadline_block is None else row.deadline_block - cursor.head_closed_block


def _entered_ms(record: TaskRecord) -> int:
    return int(record.journal[-1].at_ms if record.journal else record.task.seen_at_ms)


def _steps(record: TaskRecord, now_ms: int) -> list[Step]:
    lines = record.journal
    ends_ms: list[int | None] = [line.at_ms for line in lines[1:]]
    ends_ms.append(None if record.task.state in ENDED else now_ms)
    return [
        Step(
            line.to_state,
            time_of(line.at_ms),
            None if end_ms is None else max(0, end_ms - line.at_ms),
            _block_of(line, record.task),
            line.why,
        )
        for line, end_ms in zip(lines, ends_ms if lines else [], strict=True)
    ]


def _block_of(line: Row[Any], row: Row[Any]) -> int | None:
    if line.to_state == State.SEEN and line.from_state is None:
        return int(row.block_number)
    if line.to_state in (State.RESPONDED, State.RESPONDED_OTHER):
        return None if row.responded_block is None else int(row.responded_block)
    match = _BLOCK.search(line.why) if line.to_state in _READ_AT_BLOCK else None
    return int(match[1]) if match else None


def _chain_answer(event: Row[Any], row: Row[Any], decoder: Decoder) -> ChainAnswer:
    counts = row.response_hash == event.response_hash
    return ChainAnswer(
        "us" if row.response is not None and event.message == row.response else "another",
        event.block_number,
        hexed(event.tx_hash),
        decoder.payload_of_answer(event.message),
        counts,
        hexed(row.responded_by) if counts and event.tx_hash == row.responded_tx_hash else None,
        second_of(event.block_time_s),
    )


def _attempt(row: Row[Any]) -> AttemptLine:
    return AttemptLine(
        kind=row.kind,
        number=row.number,
        api=row.api,
        began_at=time_of(row.began_at_ms),
        duration_ms=row.duration_ms,
        outcome=row.outcome,
        http_status=row.http_status,
        code=row.code,
        reason=row.words or "",
        request_digest=hexed(row.request_digest),
        reply=(row.answer or b"")[:_REPLY_LIMIT_BYTES].decode("utf-8", "replace"),
        tx_hash=hexed(row.tx_hash),
        sig_hash=hexed(row.sig_hash),
    )
