"""A task manager's convention, ready for use: its logs as tasks and responses, its answers as calls. Pure.

What differs from contract to contract is data (`shape.py`, `conventions/`); the rules here hold for all of them:

    the hash of a task      keccak256(abi.encode(<task.hash>)), as <task.hash_view> holds it
    the hash of an answer   keccak256(abi.encode(<response.hash>)), as <response.hash_view> holds it
    what operators sign     keccak256(abi.encode(<signed>)), or that one word itself
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

from watcher.chain.abi import Codec, View, hash_or_none, number_of, topic
from watcher.chain.answers import Log
from watcher.chain.event import Event, Place, Values
from watcher.chain.payload import Payload
from watcher.chain.recipe import Constant, Recipe, Scope
from watcher.chain.shape import ResponseShape, Shape, TaskShape, load_shape
from watcher.chain.signature import Signature, abi_signature, find_in_abi, parse_signature
from watcher.document import parse as parse_json
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Call, Responded, Sighting, Task

# Quorums are addressed by one byte each, and no quorum twice.
_QUORUMS_LIMIT = 256
# Room for what stands around the message: other fields, offsets, lengths, padding.
_OVERHEAD_BYTES = 4096
_UINT256_LIMIT = 2**256
# The last argument of every response function: NonSignerStakesAndSignature of EigenLayer's BLSSignatureChecker.
NON_SIGNERS = (
    "(uint32[],(uint256,uint256)[],(uint256,uint256)[],(uint256[2],uint256[2]),(uint256,uint256),"
    "uint32[],uint32[],uint32[][])"
)
_NO_SIGNERS = Constant(([], [], [], ((0, 0), (0, 0)), (0, 0), [], [], []))


class Convention:
    """`message_limit_bytes` bounds the message of a task and of a response.

    `decode_task` and `decode_response` raise Quarantine for a log that no task manager of this convention emits, and
    nothing else. Views are None where the contract has none: then that much less can be proved.
    """

    def __init__(self, name: str, shape: Shape, abi: Sequence[Any] = (), message_limit_bytes: int = 262_144) -> None:
        self.name = name
        self.message_limit_bytes = message_limit_bytes
        self.answer = Payload(_checked_type(shape.answer))
        self.created = Event(_signature(shape.task.event, abi))
        self.responded = None if shape.response is None else Event(_signature(shape.response.event, abi))
        self.topics0 = (self.created.topic,) if self.responded is None else (self.created.topic, self.responded.topic)
        self.method = shape.call.method
        self._read_views(shape)
        self._read_task(shape.task, shape)
        if shape.response is not None and self.responded is not None:
            self._read_response(shape.response, self.responded)
        self._params = Recipe(shape.call.types, shape.call.values, self.created, self.answer.kind)
        arguments = [*shape.call.types, NON_SIGNERS]
        self._arguments = ",".join(arguments)
        self._unsigned = Recipe(arguments, [*shape.call.values, _NO_SIGNERS], self.created, self.answer.kind)
        self._signed = Recipe(shape.signed.types, shape.signed.values, self.created, self.answer.kind)
        self._signs_raw = shape.signed.raw

    def _read_views(self, shape: Shape) -> None:
        response, window = shape.response, shape.deadline.window_view
        self.latest_task_num = _view(shape.task.count_view, number_of)
        self.all_task_hashes = _view(shape.task.hash_view, hash_or_none)
        self.all_task_responses = _view(response.hash_view if response else None, hash_or_none)
        self.response_window = _view(window, number_of)
        self.window_blocks = shape.deadline.window_blocks

    def _read_task(self, task: TaskShape, shape: Shape) -> None:
        self._index = self.created.place(task.index)
        self._index_is_topic = self.created.leads_with(self._index)
        self._created_block = self._number(task.created_block)
        self._message = None if task.message is None else self.created.place(task.message)
        self._payload = Payload(self._message.parameter.type) if self._message else None
        self._quorums = self._place_or(task.quorum_numbers, bytes)
        self._threshold = self._place_or(task.quorum_threshold, int)
        self._deadline_block = self._number(shape.deadline.block)
        self._deadline_s = self._number(shape.deadline.timestamp)
        self._task_hash = _Hash(self.created, task.hash)

    def _read_response(self, response: ResponseShape, event: Event) -> None:
        self._responded_index = event.place(response.index)
        self._answer_at, kind = _answer_place(response.answer, event)
        if kind != self.answer.kind:
            raise FixConfiguration(f"response.answer is {kind}, but answer says {self.answer.kind}")
        # Where nothing says what the view holds, any word there means answered, and the event says by whom.
        self.hashes_responses = bool(response.hash)
        self._response_hash = _Hash(event, response.hash)

    @property
    def created_topic(self) -> bytes:
        """The first topic of the logs that create tasks."""
        return self.created.topic

    @property
    def responded_topic(self) -> bytes | None:
        """The first topic of the logs that show answers, None where there are none."""
        return self.responded.topic if self.responded else None

    def index_topic(self, task_index: int) -> bytes | None:
        """The second topic of the log that creates one task, None where the contract does not lead with the index."""
        return task_index.to_bytes(32) if self._index_is_topic else None

    @property
    def has_proxy(self) -> bool:
        """True when the proxy API can serve it: that builds the wizard's own structs from a message of bytes."""
        return self._payload is not None and self._payload.kind == self.answer.kind == "bytes"

    def decode_task(self, log: Log, chain_id: int, window: int | None) -> Task:
        """A log that creates a task. `window` is the response window in blocks, None where there is none."""
        values, canonical = self.created.decode(log.topics, self._within_limit(log.data))
        created = self._created_block(values) if self._created_block else log.block_number
        message = self._payload.bytes_of(self._message.read(values)) if self._message and self._payload else b""
        quorums = _quorums(self._quorums(values))
        if len(message) > self.message_limit_bytes or len(quorums) > _QUORUMS_LIMIT:
            raise Quarantine(f"the message or the quorum numbers are too long ({len(message)}, {len(quorums)} bytes)")
        deadline = self._deadline_block(values) if self._deadline_block else None
        return Task(
            chain_id=chain_id,
            task_manager=log.address,
            task_index=_index(self._index, values),
            # Over our own encoding: what the contract stored if the log is true, whatever the log's layout.
            task_hash=self._task_hash(values, canonical),
            created_block=_height(created),
            message=message,
            quorum_numbers=quorums,
            quorum_threshold=_height(self._threshold(values)),
            deadline_block=created + window if window is not None else None if deadline is None else _height(deadline),
            seen_at=_sighting(log),
            log=self.created.pack(log.topics, canonical),
            deadline_s=_height(self._deadline_s(values)) if self._deadline_s else None,
        )

    def decode_response(self, log: Log) -> Responded:
        """A log that shows an answer."""
        if self.responded is None:
            raise Quarantine("this convention has no event for answers")
        values, canonical = self.responded.decode(log.topics, self._within_limit(log.data))
        answer = self.answer.bytes_of(self._answer_at(values))
        if len(answer) > self.message_limit_bytes:
            raise Quarantine(f"the message of the response is too long ({len(answer)} bytes)")
        index = _index(self._responded_index, values)
        packed = self.responded.pack(log.topics, canonical)
        return Responded(index, answer, packed, self._response_hash(values, canonical), _sighting(log))

    def response_hash(self, task_index: int, answer: bytes, packed: bytes) -> bytes | None:
        """What the contract holds if the log `packed` shows this very answer to this task; None if it shows another."""
        assert self.responded is not None, "an answer was seen, so there is an event for it"
        values, canonical = self.responded.unpack(packed)
        if (_index(self._responded_index, values), self.answer.bytes_of(self._answer_at(values))) != (
            task_index,
            answer,
        ):
            return None
        return self._response_hash(values, canonical)

    def fields(self, task: Task) -> dict[str, Any]:
        """Every value of the event that created the task, by name. Raises Quarantine."""
        return self.created.named(self.created.unpack(task.log)[0])

    def call(self, task: Task, answer: bytes) -> Call:
        """The answer as the contract takes it. Raises Quarantine when it does not fit."""
        scope = Scope(task, self.created.unpack(task.log)[0], self.answer.value_of(answer))
        signed = self._signed.encode(scope)
        return Call(
            method=self.method,
            params_raw=self._params.encode(scope),
            sig_hash=signed if self._signs_raw else keccak(signed),
            reference_block=task.created_block,
            quorum_numbers=tuple(task.quorum_numbers),
            quorum_thresholds=(task.quorum_threshold,) * len(task.quorum_numbers),
        )

    def dry_run(self, task: Task, answer: bytes) -> bytes:
        """Call data of the response function with nobody's signature: what it says against that, it says last.

        Raises Quarantine when the answer does not fit.
        """
        scope = Scope(task, self.created.unpack(task.log)[0], self.answer.value_of(answer))
        return self.selector() + self._unsigned.encode(scope)

    def selector(self, method: str = "") -> bytes:
        """What the call data of the response function begin with, or of another one with the same arguments."""
        return topic(f"{method or self.method}({self._arguments})")[:4]

    def _number(self, path: str | None) -> Callable[[Values], int] | None:
        if path is None:
            return None
        place = self.created.place(path)
        if not place.parameter.type.startswith("uint") or place.parameter.type.endswith("]"):
            raise FixConfiguration(f"{path} is {place.parameter.type}, and must be a uint")
        return place.read

    def _place_or(self, given: Any, kind: Callable[[Any], Any]) -> Callable[[Values], Any]:
        if isinstance(given, str):
            return self.created.place(given).read
        fixed = kind(given)
        return lambda _values: fixed

    def _within_limit(self, data: bytes) -> bytes:
        if len(data) > 2 * self.message_limit_bytes + _OVERHEAD_BYTES:
            raise Quarantine(f"the log holds {len(data)} bytes, more than any message within the limit needs")
        return data


class _Hash:
    """keccak256(abi.encode(values at the paths)); of everything in the log where no path is given."""

    def __init__(self, event: Event, paths: Sequence[str]) -> None:
        places = [event.place(path) for path in paths]
        self._places = places
        self._codec = Codec(*(place.parameter.type for place in places))
        # The log's own data, where they are what is hashed: encoding them again would cost more than the hash.
        self._is_data = not paths or list(paths) == event.plain_names

    def __call__(self, values: Values, canonical: bytes) -> bytes:
        if self._is_data:
            return keccak(canonical)
        return keccak(self._codec.encode([place.read(values) for place in self._places]))


def convention(name: str, file: Path | None = None, message_limit_bytes: int = 262_144) -> Convention:
    """The convention of task_manager.convention. Raises FixConfiguration with what is wrong in it."""
    shape, abi = load_shape(name, file)
    try:
        return Convention(name, shape, abi, message_limit_bytes)
    except FixConfiguration as wrong:
        raise FixConfiguration(f"{name if file is None else file}: {wrong}") from None


def _signature(text: str, abi: Sequence[Any]) -> Signature:
    if text.lstrip().startswith("{"):
        try:
            entry = parse_json(text.encode())
        except ValueError:
            raise FixConfiguration("the event's ABI is not JSON") from None
        return abi_signature(entry) if isinstance(entry, dict) else abi_signature({})
    return parse_signature(text) if "(" in text else find_in_abi(abi, "event", text.strip())


def _checked_type(kind: str) -> str:
    return parse_signature(f"answer({kind})").inputs[0].type


def _answer_place(paths: str | Sequence[str], event: Event) -> tuple[Callable[[Values], Any], str]:
    """How to read the answer, and its type: one value, or several as a tuple."""
    if isinstance(paths, str):
        place = event.place(paths)
        return place.read, place.parameter.type
    places = [event.place(path) for path in paths]
    kind = f"({','.join(place.parameter.type for place in places)})"
    return lambda values: tuple(place.read(values) for place in places), kind


def _view(signature: str | None, read: Callable[[bytes], Any]) -> View[Any] | None:
    return None if signature is None else View(str(parse_signature(signature)), read)


def _index(place: Place, values: Values) -> int:
    """Numbers and 32-byte ids as they are; whatever else names a task, by its hash."""
    value = place.read(values)
    if type(value) is int:
        if not 0 <= value < _UINT256_LIMIT:
            raise Quarantine("the task index is negative")
        return value
    if isinstance(value, bytes) and len(value) == 32:
        return int.from_bytes(value)
    return int.from_bytes(keccak(Codec(place.parameter.type).encode([value])))


def _quorums(value: Any) -> bytes:
    try:
        return bytes(value)
    except (ValueError, TypeError):
        raise Quarantine("the quorum numbers are not bytes") from None


def _height(value: Any) -> int:
    """A number that a database's integer holds."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise Quarantine("a block, a time or a threshold is beyond all measure")
    return value


def _sighting(log: Log) -> Sighting:
    return Sighting(log.block_number, log.block_hash, log.tx_hash, log.log_index)
