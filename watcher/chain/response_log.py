"""The logs that show answers, as responses. Pure."""

from collections.abc import Callable, Sequence
from typing import Any

from watcher.chain.answers import Log
from watcher.chain.event import Event, Values
from watcher.chain.field import Hash, sighting, within_limit
from watcher.chain.index import Index
from watcher.chain.payload import Payload
from watcher.chain.shape import ResponseShape
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Responded


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
