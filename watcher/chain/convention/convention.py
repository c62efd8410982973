"""A task manager's convention, ready for use: its logs as tasks and responses, its answers as calls. Pure.

A file (`schema.py`, `presets/`) describes one contract; these rules hold for all contracts:

    the hash of a task      keccak256(abi.encode(<task.hash>)), stored in <task.hash_view>
    the hash of an answer   keccak256(abi.encode(<response.hash>)), stored in <response.hash_view>
    the signed digest       keccak256(abi.encode(<signed>)), or one word as it is
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from watcher.chain.convention.answer_call import AnswerCall
from watcher.chain.convention.calldata import Scope
from watcher.chain.convention.contract_abi import ContractAbi
from watcher.chain.convention.event import Event
from watcher.chain.convention.fields import Payload
from watcher.chain.convention.logs import LogFilter, Only, ResponseLog, TaskLog
from watcher.chain.convention.schema import ObservedSchema, ResponseSchema, load_schema
from watcher.chain.convention.signature import Signature, abi_signature, errors_in_abi, find_in_abi, parse_signature
from watcher.chain.convention.table import address_bytes
from watcher.chain.convention.view import (
    View,
    address_or_none,
    hash_or_none,
    next_index,
    window_before,
    window_of,
    word_if,
)
from watcher.chain.convention.view_schema import ViewSchema
from watcher.chain.rpc.replies import Log
from watcher.errors import FixConfiguration, Quarantine
from watcher.files import parse as parse_json
from watcher.task import Call, Responded, Task


class Convention:
    """The events, views and calls of one contract.

    `latest_task_num` reads the next index, in whichever way the contract counts; `first_index` is the lowest index.
    `responded_address` and `call_address`, 20 bytes, are None where the task manager itself emits and takes answers.
    `decode_task` and `decode_response` raise Quarantine for a log that no task manager of this convention emits, and
    nothing else. A view is None where the contract has none: then less can be proved.
    """

    def __init__(
        self, name: str, schema: ObservedSchema, abi: Sequence[Any] = (), message_limit_bytes: int = 262_144
    ) -> None:
        """Check the file's events, paths and types against each other.

        Args:
            name: the convention's name, for messages.
            schema: the convention file.
            abi: the contract's ABI, if the file names one.
            message_limit_bytes: the bound on the message of a task and of a response.

        Raises:
            FixConfiguration: a signature, a path or a type is wrong.
        """
        self.name = name
        self.message_limit_bytes = message_limit_bytes
        self.answer = Payload(_checked_type(schema.answer))
        self.errors = errors_in_abi(abi)
        self.created = Event(_signature(schema.task.event, abi))
        self._tasks = TaskLog(self.created, schema.task, schema.deadline, message_limit_bytes)
        self.only_tasks = _filter(self.created, schema.task.only)
        self._set_up_views(schema)
        self._set_up_responses(schema.response, abi)
        self.call_address = address_bytes(schema.call.address) if schema.call else None
        self._answers: AnswerCall | None = None
        self.aggregator: View[Any] | None = None
        if schema.call is not None:
            self.aggregator = _view(schema.call.sender_view, address_or_none, self.call_address)
            if schema.signed is not None:
                self._answers = AnswerCall(schema.call, schema.signed, self.created, self.answer.kind)

    def _set_up_views(self, schema: ObservedSchema) -> None:
        is_inclusive = schema.deadline.inclusive
        self.first_index = schema.task.first_index
        is_count = schema.task.count_is == "count"
        self.latest_task_num = _view(
            schema.task.count_view, partial(next_index, first_index=self.first_index, is_count=is_count)
        )
        self.all_task_hashes = _view(schema.task.hash_view, hash_or_none)
        self._hashes_tasks = bool(schema.task.hash)
        self.response_window = _view(schema.deadline.window_view, window_of if is_inclusive else window_before)
        self.window_blocks = _last(schema.deadline.window_blocks, inclusive=is_inclusive)

    def _set_up_responses(self, response: ResponseSchema | None, abi: Sequence[Any]) -> None:
        self.responded: Event | None = None
        self.responded_address: bytes | None = None
        self.all_task_responses: View[Any] | None = None
        self._responses: ResponseLog | None = None
        self.only_responses: LogFilter | None = None
        if response is None:
            return
        self.responded = Event(_signature(response.event, abi))
        self.responded_address = address_bytes(response.address)
        self.all_task_responses = _view(response.hash_view, hash_or_none, self.responded_address)
        self._responses = ResponseLog(self.responded, response, self.answer, self.message_limit_bytes)
        self.only_responses = _filter(self.responded, response.only)

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
        """The first topics of all logs to read."""
        return (self.created.topic,) if self.responded is None else (self.created.topic, self.responded.topic)

    @property
    def hashes_responses(self) -> bool:
        """True where the contract's word for an answered task is the hash of the response event's values."""
        return self._responses is not None and self._responses.is_hashed

    @property
    def hashes_tasks(self) -> bool:
        """True where the contract's word for a task is its hash; False where the word only shows that it exists."""
        return self._hashes_tasks

    def index_topic(self, task_index: int) -> bytes | None:
        """Return the second topic of the log that creates this task; None where the index is not the second topic."""
        return self._tasks.index_topic(task_index)

    def decode_task(self, log: Log, chain_id: int, window: int | None) -> Task:
        """Return the task in a log.

        Args:
            log: a log of the contract.
            chain_id: the chain the log is of.
            window: the response window in blocks, None where there is none.

        Raises:
            Quarantine: no task manager of this convention emits such a log.
        """
        return self._tasks.decode(log, chain_id, window)

    def decode_response(self, log: Log) -> Responded:
        """Return the response in a log. Raises Quarantine."""
        if self._responses is None:
            raise Quarantine("this convention has no event for answers")
        return self._responses.decode(log)

    def response_hash(self, task_index: int, answer: bytes, packed: bytes) -> bytes | None:
        """Return the contract's hash of a response; None if the log shows another response.

        Args:
            task_index: the task that is answered.
            answer: the bytes of the response.
            packed: topics and data of the response event.
        """
        assert self._responses is not None, "a response was seen, so its event is known"
        return self._responses.hash_of(task_index, answer, packed)

    def fields(self, task: Task) -> dict[str, Any]:
        """Return every value of the event that created the task, by name. Raises Quarantine."""
        return self._tasks.fields(task)

    def matches_log(self, task: Task) -> bool:
        """Return True if the log stored with a task describes this task: its index, its hash and its content."""
        return self._tasks.matches_log(task)

    @property
    def method(self) -> str:
        """The name of the function that takes answers; "" where the file names none."""
        return "" if self._answers is None else self._answers.method

    def is_own_task(self, log: Log) -> bool:
        """Return False for a log that creates another party's task, by `task.only`; True for an unreadable log."""
        return self._is_ours(log, self.created, self.only_tasks)

    def is_own_response(self, log: Log) -> bool:
        """Return False for a log that answers another party's task, by `response.only`; True for an unreadable log."""
        return self.responded is None or self._is_ours(log, self.responded, self.only_responses)

    @staticmethod
    def _is_ours(log: Log, event: Event, only: LogFilter | None) -> bool:
        if only is None:
            return True
        try:
            return only.matches(event.decode(log.topics, log.data)[0])
        except Quarantine:
            return True

    def call(self, task: Task, answer: bytes) -> Call:
        """Return the call that sends an answer. Raises Quarantine when the answer does not fit."""
        return self._answer_call.call(self._scope(task, answer))

    def digest(self, task: Task, answer: bytes) -> bytes:
        """Return the digest that operators sign for an answer. Raises Quarantine when the answer does not fit."""
        return self._answer_call.digest(self._scope(task, answer))

    def dry_run(self, task: Task, answer: bytes) -> bytes:
        """Return call data of the response function with an empty signature; contracts check the signature last.

        Raises:
            Quarantine: the answer does not fit.
        """
        return self._answer_call.dry_run(self._scope(task, answer))

    def selector(self, method: str = "") -> bytes:
        """Return the selector of the response function, 4 bytes, or of a function `method` with the same arguments."""
        return self._answer_call.selector(method)

    @property
    def function(self) -> str:
        """The canonical signature of the function that takes answers; "" where the file names none."""
        return "" if self._answers is None else self._answers.function

    @property
    def can_answer(self) -> bool:
        """True where the file has [call] and [signed]."""
        return self._answers is not None

    @property
    def _answer_call(self) -> AnswerCall:
        assert self._answers is not None, "the loader requires [call] and [signed] where answers are sent"
        return self._answers

    def _scope(self, task: Task, answer: bytes) -> Scope:
        values = self._tasks.values_of(task)
        reference_block = self._tasks.reference_block(values, task.created_block)
        return Scope(task, values, self.answer.value_of(answer), reference_block)


def convention(
    name: str, file: Path | None = None, message_limit_bytes: int = 262_144, *, answers: bool = True
) -> Convention:
    """Return the convention that `task_manager.convention` names.

    Args:
        name: a preset, or "custom".
        file: the file for "custom".
        message_limit_bytes: the bound on the message of a task and of a response.
        answers: answers are sent, so that [call] and [signed] are required.

    Raises:
        FixConfiguration: the file is wrong, or contradicts the ABI it names.
    """
    schema, abi = load_schema(name, file, answers=answers)
    try:
        loaded = Convention(name, schema, abi, message_limit_bytes)
        if schema.abi:
            _compare(loaded, schema, abi)
        return loaded
    except FixConfiguration as error:
        raise FixConfiguration(f"{name if file is None else file}: {error}") from None


def _compare(loaded: Convention, schema: ObservedSchema, abi: Sequence[Any]) -> None:
    """Raise FixConfiguration with every difference from the ABI."""
    differences = ContractAbi(abi).differences(schema, loaded.created, loaded.responded, loaded.function)
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


def _view(schema: ViewSchema | None, read: Callable[[bytes], Any], address: bytes | None = None) -> View[Any] | None:
    """Return a view; `address` is the contract of the table that holds it, None for the task manager."""
    if schema is None:
        return None
    if schema.is_flag:
        read = partial(word_if, equals=schema.equals, not_equals=schema.not_equals)
    return View(str(schema.signature), read, schema.argument_words, schema.word, schema.contract or address)
