"""Logs as tasks and responses: the index a log names, the logs that are ours, and the values in them. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eth_hash.auto import keccak

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.calldata import Encoder, Scope
from watcher.chain.convention.event import Event, Place, Values
from watcher.chain.convention.expression import Encoding, IndexSource
from watcher.chain.convention.fields import (
    Hash,
    Payload,
    bounded_uint,
    deadline_or_none,
    index_of,
    number_at,
    quorums,
    quorums_at,
    sighting,
    threshold_at,
    within_limit,
)
from watcher.chain.convention.schema import Deadline, ResponseSchema, TaskSchema
from watcher.chain.convention.table import Constant, constant_value
from watcher.chain.rpc.calls import Topics
from watcher.chain.rpc.replies import Log
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Responded, Task
from watcher.validation import brief

Only = Mapping[str, Constant | list[Constant]]
# Nodes bound how many topics one question may name.
_CHOICES_LIMIT = 50


class LogFilter:
    """The logs of a shared contract that are ours: at every path of `only` stands one of its constants.

    Raises:
        FixConfiguration: the event has no such path, or the path has another type than the constant.
    """

    def __init__(self, event: Event, only: Only) -> None:
        places = [(event.place(path, as_name=True), path, choices) for path, choices in only.items()]
        self._allowed = [(place, _encodings(place, path, choices)) for place, path, choices in places]
        self.topics = self._topics(event)
        """The topics of our logs, as a node is asked for them: the event's, and every indexed value of `only`."""

    def _topics(self, event: Event) -> Topics:
        choices: list[Sequence[bytes]] = [(event.topic,), (), (), ()]
        for place, allowed in self._allowed:
            position = event.topic_position(place)
            if position is not None and len(allowed) <= _CHOICES_LIMIT:
                choices[position] = sorted(allowed)
        while not choices[-1]:
            choices.pop()
        return tuple(choices)

    def matches(self, values: Values) -> bool:
        """Return True for the values of a log of ours."""
        return all(_encoded(place, place.read(values)) in allowed for place, allowed in self._allowed)


def _encodings(place: Place, path: str, choices: Constant | list[Constant]) -> frozenset[bytes]:
    kind = place.parameter.type
    try:
        values = [constant_value(choice, kind) for choice in (choices if isinstance(choices, list) else [choices])]
    except FixConfiguration as error:
        raise FixConfiguration(f"only: {brief(path)}: {error}") from None
    if place.parameter.is_hashed:
        return frozenset(keccak(value.encode() if isinstance(value, str) else value) for value in values)
    return frozenset(Codec(kind).encode([value]) for value in values)


def _encoded(place: Place, value: object) -> bytes:
    if isinstance(value, bytes) and place.parameter.is_hashed:
        return value
    return Codec(place.parameter.type).encode([value])


class _Index:
    """The index in one kind of log, by what `index` says in the file.

    One path: `index_of` its value. Several paths: keccak256(abi.encode(values)). An Encoding: keccak256 of its bytes.

    Raises:
        FixConfiguration: the event has no such path.
    """

    def __init__(self, source: IndexSource, event: Event) -> None:
        self._place = event.place(source, as_name=True) if isinstance(source, str) else None
        self.is_topic = self._place is not None and event.leads_with(self._place)
        if isinstance(source, tuple):
            places = [event.place(path, as_name=True) for path in source]
            types = ["bytes32" if place.parameter.is_hashed else place.parameter.type for place in places]
            source = Encoding(tuple(types), source)
        self._encoder = None
        if isinstance(source, Encoding):
            self._encoder = Encoder(source.types, source.values, event, None, packed=source.packed)

    def of(self, values: Values) -> int:
        """Return the index, a uint256. Raises Quarantine for values that give none."""
        if self._encoder is None:
            assert self._place is not None, "a source is one path or an encoding"
            return index_of(self._place, values)
        return int.from_bytes(keccak(self._encoder.encode(Scope(None, values, None))))


class ResponseLog:
    """Responses from the logs of one event. `answer` turns a response into bytes.

    Raises:
        FixConfiguration: the table names a path or a type that the event does not have.
    """

    def __init__(self, event: Event, response: ResponseSchema, answer: Payload, message_limit_bytes: int) -> None:
        self.event = event
        self._answer = answer
        self._limit_bytes = message_limit_bytes
        self._index = _Index(response.index, event)
        self._answer_at, kind = _answer_place(response.answer, event)
        if kind != answer.kind:
            raise FixConfiguration(f"response.answer is {kind}, but answer says {answer.kind}")
        # Without response.hash any word in the view means "answered", and only the event shows the response.
        self.is_hashed = bool(response.hash)
        self._hash = Hash(event, response.hash)

    def decode(self, log: Log) -> Responded:
        """Return the response. Raises Quarantine."""
        values, canonical = self.event.decode(log.topics, within_limit(log.data, self._limit_bytes))
        answer = self._answer.bytes_of(self._answer_at(values))
        if len(answer) > self._limit_bytes:
            raise Quarantine(f"the message of the response is too long ({len(answer)} bytes)")
        packed = self.event.pack(log.topics, canonical)
        return Responded(self._index.of(values), answer, packed, self._hash(values, canonical), sighting(log))

    def hash_of(self, task_index: int, answer: bytes, packed: bytes) -> bytes | None:
        """Return the contract's hash of a response; None if the log shows another response.

        Args:
            task_index: the task that is answered.
            answer: the bytes of the response.
            packed: topics and data of the response event.
        """
        values, canonical = self.event.unpack(packed)
        logged = (self._index.of(values), self._answer.bytes_of(self._answer_at(values)))
        return self._hash(values, canonical) if logged == (task_index, answer) else None


def _answer_place(paths: str | Sequence[str], event: Event) -> tuple[Callable[[Values], Any], str]:
    """Return the reader of the response, and its type: a tuple where there are several paths."""
    if isinstance(paths, str):
        place = event.place(paths)
        return place.read, place.parameter.type
    places = [event.place(path) for path in paths]
    kind = f"({','.join(place.parameter.type for place in places)})"
    return lambda values: tuple(place.read(values) for place in places), kind


class TaskLog:
    """Tasks from the logs of one event. `payload` is the type of a task's message, None where the event has none.

    Raises:
        FixConfiguration: a table names a path or a type that the event does not have.
    """

    def __init__(self, event: Event, task: TaskSchema, deadline: Deadline, message_limit_bytes: int) -> None:
        self.event = event
        self._limit_bytes = message_limit_bytes
        self._index = _Index(task.index, event)
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
        """Return the second topic of the log that creates this task; None where the index is not the second topic."""
        return task_index.to_bytes(32) if self._index.is_topic else None

    def decode(self, log: Log, chain_id: int, window: int | None) -> Task:
        """Return the task.

        Args:
            log: a log of the contract.
            chain_id: the chain the log is of.
            window: the response window in blocks, None where there is none.

        Raises:
            Quarantine: no task manager of this convention emits such a log.
        """
        values, canonical = self.event.decode(log.topics, within_limit(log.data, self._limit_bytes))
        created = self._created_block(values) if self._created_block else log.block_number
        message = self._message_in(values)
        numbers = quorums(self._quorums(values))
        if len(message) > self._limit_bytes:
            raise Quarantine(f"the message of the task is too long ({len(message)} bytes)")
        created_block = bounded_uint(created)
        self.reference_block(values, created_block)
        deadline = self._last(self._deadline_block, values)
        return Task(
            chain_id=chain_id,
            task_manager=log.address,
            task_index=self._index.of(values),
            # Over our own encoding: the contract stores this hash if the log is true, whatever the log's layout.
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

    def matches_log(self, task: Task) -> bool:
        """Return True if the log stored with a task describes this task: its index, its hash and its content."""
        try:
            values, canonical = self.event.unpack(task.log)
            return (
                self._index.of(values) == task.task_index
                and self._task_hash(values, canonical) == task.task_hash
                and (self._created_block is None or bounded_uint(self._created_block(values)) == task.created_block)
                and self._message_in(values) == task.message
                and quorums(self._quorums(values)) == task.quorum_numbers
                and self._threshold(values) == task.quorum_threshold
            )
        except Quarantine:
            return False

    def _message_in(self, values: Values) -> bytes:
        return self.payload.bytes_of(self._message.read(values)) if self._message and self.payload else b""

    def _last(self, read: Callable[[Values], int] | None, values: Values) -> int | None:
        """Return the last admissible block or second; None where there is none."""
        deadline = None if read is None else deadline_or_none(read(values))
        return deadline if deadline is None or self._is_inclusive else deadline - 1

    def reference_block(self, values: Values, created_block: int) -> int:
        """Return the block whose stakes count: `task.reference_block`, else the created block. Raises Quarantine."""
        return created_block if self._reference_block is None else bounded_uint(self._reference_block(values))

    def values_of(self, task: Task) -> Values:
        """Return the values of the log that created the task. Raises Quarantine."""
        return self.event.unpack(task.log)[0]

    def fields(self, task: Task) -> dict[str, Any]:
        """Return the values of the log that created the task, by name. Raises Quarantine."""
        return self.event.named(self.values_of(task))
