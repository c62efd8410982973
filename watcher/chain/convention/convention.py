"""A task manager's convention, ready for use: its logs as tasks and responses, its answers as calls. Pure.

What differs from contract to contract is data (`shape.py`, `conventions/`); the rules here hold for all of them:

    the hash of a task      keccak256(abi.encode(<task.hash>)), as <task.hash_view> holds it
    the hash of an answer   keccak256(abi.encode(<response.hash>)), as <response.hash_view> holds it
    what operators sign     keccak256(abi.encode(<signed>)), or that one word itself
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from watcher.chain.convention.abi import View, address_or_none, hash_or_none, window_before, window_of, word_if
from watcher.chain.convention.answer_call import AnswerCall
from watcher.chain.convention.calldata import Scope
from watcher.chain.convention.contract_abi import ContractAbi
from watcher.chain.convention.event import Event
from watcher.chain.convention.fields import Payload
from watcher.chain.convention.index import next_index
from watcher.chain.convention.log_filter import LogFilter, Only
from watcher.chain.convention.logs import ResponseLog, TaskLog
from watcher.chain.convention.proxy_call import proxy_builds
from watcher.chain.convention.schema import ObservedShape, load_shape
from watcher.chain.convention.signature import Signature, abi_signature, errors_in_abi, find_in_abi, parse_signature
from watcher.chain.convention.table import octets_of
from watcher.chain.convention.view_shape import ViewShape
from watcher.chain.rpc.replies import Log
from watcher.errors import FixConfiguration, Quarantine
from watcher.files import parse as parse_json
from watcher.task import Call, Responded, Task


class Convention:
    """`message_limit_bytes` bounds the message of a task and of a response.

    `latest_task_num` reads the next index, whatever the contract's own view says; `first_index` is the lowest one.

    `responded_address` and `call_address`, 20 bytes, are None where the task manager itself emits and takes answers.
    `decode_task` and `decode_response` raise Quarantine for a log that no task manager of this convention emits, and
    nothing else. Views are None where the contract has none: then that much less can be proved.
    """

    def __init__(
        self, name: str, shape: ObservedShape, abi: Sequence[Any] = (), message_limit_bytes: int = 262_144
    ) -> None:
        self.name = name
        self.message_limit_bytes = message_limit_bytes
        self.answer = Payload(_checked_type(shape.answer))
        self.errors = errors_in_abi(abi)
        self.created = Event(_signature(shape.task.event, abi))
        self._tasks = TaskLog(self.created, shape.task, shape.deadline, message_limit_bytes)
        self.responded = None if shape.response is None else Event(_signature(shape.response.event, abi))
        self._responses = (
            None
            if shape.response is None or self.responded is None
            else ResponseLog(self.responded, shape.response, self.answer, message_limit_bytes)
        )
        self.responded_address = octets_of(shape.response.address) if shape.response else None
        self.call_address = octets_of(shape.call.address) if shape.call else None
        self._only_tasks = _filter(self.created, shape.task.only)
        self._only_responses = _filter(self.responded, shape.response.only if shape.response else {})
        is_inclusive = shape.deadline.inclusive
        self.first_index = shape.task.first_index
        self.latest_task_num = _view(
            shape.task.count_view,
            partial(next_index, first_index=self.first_index, is_count=shape.task.count_is == "count"),
        )
        self.all_task_hashes = _view(shape.task.hash_view, hash_or_none)
        self._hashes_tasks = bool(shape.task.hash)
        self.all_task_responses = _view(
            shape.response.hash_view if shape.response else None, hash_or_none, self.responded_address
        )
        self.response_window = _view(shape.deadline.window_view, window_of if is_inclusive else window_before)
        self.window_blocks = _last(shape.deadline.window_blocks, inclusive=is_inclusive)
        self._answers = (
            None
            if shape.call is None or shape.signed is None
            else AnswerCall(shape.call, shape.signed, self.created, self.answer.kind)
        )
        self.aggregator = (
            None if shape.call is None else _view(shape.call.sender_view, address_or_none, self.call_address)
        )

    @property
    def created_topic(self) -> bytes:
        """The first topic of the logs that create tasks."""
        return self.created.topic

    @property
    def responded_topic(self) -> bytes | None:
        """The first topic of the logs that show answers, None where there are none."""
        return self.responded.topic if self.responded else None

    @property
    def topics0(self) -> tuple[bytes, ...]:
        """The first topics of all logs there are to read."""
        return (self.created.topic,) if self.responded is None else (self.created.topic, self.responded.topic)

    @property
    def hashes_responses(self) -> bool:
        """True when it is known what the contract's word for an answered task is the hash of."""
        return self._responses is not None and self._responses.is_hashed

    @property
    def hashes_tasks(self) -> bool:
        """True when the contract's word for a task is its hash, and not only that there is one."""
        return self._hashes_tasks

    @property
    def has_proxy(self) -> bool:
        """True when the proxy API can serve it: that builds the wizard's own structs from a message of bytes."""
        return self.can_answer and self.answer.kind == "bytes" and proxy_builds(self)

    def index_topic(self, task_index: int) -> bytes | None:
        """The second topic of the log that creates one task, None where the contract does not lead with the index."""
        return self._tasks.index_topic(task_index)

    def decode_task(self, log: Log, chain_id: int, window: int | None) -> Task:
        """A log that creates a task. `window` is the response window in blocks, None where there is none."""
        return self._tasks.decode(log, chain_id, window)

    def decode_response(self, log: Log) -> Responded:
        """A log that shows an answer."""
        if self._responses is None:
            raise Quarantine("this convention has no event for answers")
        return self._responses.decode(log)

    def response_hash(self, task_index: int, answer: bytes, packed: bytes) -> bytes | None:
        """What the contract holds if the log `packed` shows this very answer to this task; None if it shows another."""
        assert self._responses is not None, "an answer was seen, so there is an event for it"
        return self._responses.hash_of(task_index, answer, packed)

    def fields(self, task: Task) -> dict[str, Any]:
        """Every value of the event that created the task, by name. Raises Quarantine."""
        return self._tasks.fields(task)

    def told(self, task: Task) -> bool:
        """Whether the log that is kept with a task tells of this very task: its index, its hash and what it asks."""
        return self._tasks.told(task)

    @property
    def method(self) -> str:
        """The function that takes the answer, "" where the file names none."""
        return "" if self._answers is None else self._answers.method

    def takes_task(self, log: Log) -> bool:
        """False for a log that creates a task of somebody else's, by `task.only`. One that cannot be read is taken."""
        return self._is_ours(log, self.created, self._only_tasks)

    def takes_response(self, log: Log) -> bool:
        """False for a log that shows an answer to a task of somebody else's, by `response.only`."""
        return self.responded is None or self._is_ours(log, self.responded, self._only_responses)

    @staticmethod
    def _is_ours(log: Log, event: Event, only: LogFilter | None) -> bool:
        if only is None:
            return True
        try:
            return only.takes(event.decode(log.topics, log.data)[0])
        except Quarantine:
            return True

    def call(self, task: Task, answer: bytes) -> Call:
        """The answer as the contract takes it. Raises Quarantine when it does not fit."""
        return self._sending.call(self._scope(task, answer))

    def dry_run(self, task: Task, answer: bytes) -> bytes:
        """Call data of the response function with nobody's signature: what it says against that, it says last.

        Raises Quarantine when the answer does not fit.
        """
        return self._sending.dry_run(self._scope(task, answer))

    def selector(self, method: str = "") -> bytes:
        """What the call data of the response function begin with, or of another one with the same arguments."""
        return self._sending.selector(method)

    @property
    def function(self) -> str:
        """The function that takes the answer with the types of all its arguments, "" where the file names none."""
        return "" if self._answers is None else self._answers.function

    @property
    def can_answer(self) -> bool:
        """True where the file says how an answer is sent and what is signed."""
        return self._answers is not None

    @property
    def _sending(self) -> AnswerCall:
        assert self._answers is not None, "without [call] and [signed] nothing is sent, and the loader sees to that"
        return self._answers

    def _scope(self, task: Task, answer: bytes) -> Scope:
        values = self._tasks.values_of(task)
        reference_block = self._tasks.reference_block(values, task.created_block)
        return Scope(task, values, self.answer.value_of(answer), reference_block)


def convention(
    name: str, file: Path | None = None, message_limit_bytes: int = 262_144, *, answers: bool = True
) -> Convention:
    """The convention of task_manager.convention; `answers`: answers are sent, so that it must say how.

    Raises FixConfiguration with what is wrong in it.
    """
    shape, abi = load_shape(name, file, answers=answers)
    try:
        found = Convention(name, shape, abi, message_limit_bytes)
        if shape.abi:
            _compare(found, shape, abi)
        return found
    except FixConfiguration as wrong:
        raise FixConfiguration(f"{name if file is None else file}: {wrong}") from None


def _compare(found: Convention, shape: ObservedShape, abi: Sequence[Any]) -> None:
    """Raise FixConfiguration with all that is written and not so in the ABI."""
    differences = ContractAbi(abi).differences(shape, found.created, found.responded, found.function)
    if differences:
        raise FixConfiguration("; ".join(differences))


def _signature(text: str, abi: Sequence[Any]) -> Signature:
    if text.lstrip().startswith("{"):
        try:
            entry = parse_json(text.encode())
        except ValueError:
            raise FixConfiguration("the event's ABI is not JSON") from None
        return abi_signature(entry) if isinstance(entry, dict) else abi_signature({})
    return parse_signature(text) if "(" in text else find_in_abi(abi, "event", text.strip())


def _checked_type(kind: str) -> str:
    inputs = parse_signature(f"answer({kind})").inputs
    if len(inputs) != 1:
        raise FixConfiguration(f"answer: {kind[:60]!r} is not one type; several values together are a tuple: (a,b)")
    return inputs[0].type


def _last(blocks: int | None, *, inclusive: bool) -> int | None:
    return blocks if blocks is None or inclusive else blocks - 1


def _filter(event: Event | None, only: Only) -> LogFilter | None:
    return LogFilter(event, only) if event is not None and only else None


def _view(shape: ViewShape | None, read: Callable[[bytes], Any], address: bytes | None = None) -> View[Any] | None:
    """`address`: the contract of the table that the view stands in, where that names one."""
    if shape is None:
        return None
    if shape.says_yes_or_no:
        read = partial(word_if, equals=shape.equals, not_equals=shape.not_equals)
    return View(str(shape.signature), read, shape.words, shape.word, shape.address_bytes or address)
