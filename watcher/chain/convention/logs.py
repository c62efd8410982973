"""The logs that create tasks, as tasks. Pure."""

from collections.abc import Callable, Sequence
from typing import Any

from watcher.chain.convention.event import Event, Values
from watcher.chain.convention.fields import (
    Hash,
    Payload,
    natural,
    number_at,
    quorums,
    quorums_at,
    sighting,
    threshold_at,
    until,
    within_limit,
)
from watcher.chain.convention.index import Index
from watcher.chain.convention.schema import Deadline, ResponseShape, TaskShape
from watcher.chain.rpc.replies import Log
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Responded, Task


class ResponseLog:
    """Reads one kind of log. `answer` says how an answer is turned into bytes.

    Raises FixConfiguration where the shape asks for what the event does not have.
    """

    def __init__(self, event: Event, response: ResponseShape, answer: Payload, message_limit_bytes: int) -> None:
        self.event = event
        self._answer = answer
        self._limit_bytes = message_limit_bytes
        self._index = Index(response.index, event)
        self._answer_at, kind = _answer_place(response.answer, event)
        if kind != answer.kind:
            raise FixConfiguration(f"response.answer is {kind}, but answer says {answer.kind}")
        # Where nothing says what the view holds, any word there means answered, and the event says by whom.
        self.is_hashed = bool(response.hash)
        self._hash = Hash(event, response.hash)

    def decode(self, log: Log) -> Responded:
        """The response. Raises Quarantine."""
        values, canonical = self.event.decode(log.topics, within_limit(log.data, self._limit_bytes))
        answer = self._answer.bytes_of(self._answer_at(values))
        if len(answer) > self._limit_bytes:
            raise Quarantine(f"the message of the response is too long ({len(answer)} bytes)")
        packed = self.event.pack(log.topics, canonical)
        return Responded(self._index.of(values), answer, packed, self._hash(values, canonical), sighting(log))

    def hash_of(self, task_index: int, answer: bytes, packed: bytes) -> bytes | None:
        """What the contract holds if the log `packed` shows this very answer to this task; None if it shows another."""
        values, canonical = self.event.unpack(packed)
        shown = (self._index.of(values), self._answer.bytes_of(self._answer_at(values)))
        return self._hash(values, canonical) if shown == (task_index, answer) else None


def _answer_place(paths: str | Sequence[str], event: Event) -> tuple[Callable[[Values], Any], str]:
    """How to read the answer, and its type: one value, or several as a tuple."""
    if isinstance(paths, str):
        place = event.place(paths)
        return place.read, place.parameter.type
    places = [event.place(path) for path in paths]
    kind = f"({','.join(place.parameter.type for place in places)})"
    return lambda values: tuple(place.read(values) for place in places), kind


class TaskLog:
    """Reads one kind of log. `payload` is the message of a task, None where the event carries none.

    Raises FixConfiguration where the shape asks for what the event does not have.
    """

    def __init__(self, event: Event, task: TaskShape, deadline: Deadline, message_limit_bytes: int) -> None:
        self.event = event
        self._limit_bytes = message_limit_bytes
        self._index = Index(task.index, event)
        self._created_block = number_at(task.created_block, event)
        self._reference_block = number_at(task.reference_block, event)
        self._message = None if task.message is None else event.place(task.message)
        self.payload = Payload(self._message.parameter.type) if self._message else None
        self._quorums = quorums_at(task.quorum_numbers, event)
        self._threshold = threshold_at(task.quorum_threshold, event, task.threshold_scale)
        self._deadline_block = number_at(deadline.block, event)
        self._deadline_s = number_at(deadline.timestamp, event)
        self._is_inclusive = deadline.inclusive
        self._task_hash = Hash(event, task.hash)

    def index_topic(self, task_index: int) -> bytes | None:
        """The second topic of the log that creates one task, None where the contract does not lead with the index."""
        return task_index.to_bytes(32) if self._index.is_topic else None

    def decode(self, log: Log, chain_id: int, window: int | None) -> Task:
        """The task. `window` is the response window in blocks, None where there is none. Raises Quarantine."""
        values, canonical = self.event.decode(log.topics, within_limit(log.data, self._limit_bytes))
        created = self._created_block(values) if self._created_block else log.block_number
        message = self._message_in(values)
        numbers = quorums(self._quorums(values))
        if len(message) > self._limit_bytes:
            raise Quarantine(f"the message of the task is too long ({len(message)} bytes)")
        created_block = natural(created)
        self.reference_block(values, created_block)
        deadline = self._last(self._deadline_block, values)
        return Task(
            chain_id=chain_id,
            task_manager=log.address,
            task_index=self._index.of(values),
            # Over our own encoding: what the contract stored if the log is true, whatever the log's layout.
            task_hash=self._task_hash(values, canonical),
            created_block=created_block,
            message=message,
            quorum_numbers=numbers,
            quorum_threshold=self._threshold(values),
            deadline_block=deadline if window is None else created_block + window,
            seen_at=sighting(log),
            log=self.event.pack(log.topics, canonical),
            deadline_s=self._last(self._deadline_s, values),
        )

    def told(self, task: Task) -> bool:
        """Whether the log that is kept with a task tells of this very task: its index, its hash and what it asks."""
        try:
            values, canonical = self.event.unpack(task.log)
            return (
                self._index.of(values) == task.task_index
                and self._task_hash(values, canonical) == task.task_hash
                and (self._created_block is None or natural(self._created_block(values)) == task.created_block)
                and self._message_in(values) == task.message
                and quorums(self._quorums(values)) == task.quorum_numbers
                and self._threshold(values) == task.quorum_threshold
            )
        except Quarantine:
            return False

    def _message_in(self, values: Values) -> bytes:
        return self.payload.bytes_of(self._message.read(values)) if self._message and self.payload else b""

    def _last(self, read: Callable[[Values], int] | None, values: Values) -> int | None:
        """The last admissible block or second, None where there is none."""
        found = None if read is None else until(read(values))
        return found if found is None or self._is_inclusive else found - 1

    def reference_block(self, values: Values, created_block: int) -> int:
        """The block whose stakes count: of `task.reference_block`, else the created block. Raises Quarantine."""
        return created_block if self._reference_block is None else natural(self._reference_block(values))

    def values_of(self, task: Task) -> Values:
        """The values of the log that created the task. Raises Quarantine."""
        return self.event.unpack(task.log)[0]

    def fields(self, task: Task) -> dict[str, Any]:
        """The same by name. Raises Quarantine."""
        return self.event.named(self.values_of(task))
