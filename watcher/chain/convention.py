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

from watcher.chain.abi import View, address_or_none, hash_or_none, number_of, topic, window_of
from watcher.chain.answers import Log
from watcher.chain.event import Event
from watcher.chain.payload import Payload
from watcher.chain.recipe import Constant, Recipe, Scope
from watcher.chain.response_log import ResponseLog
from watcher.chain.shape import Shape, load_shape
from watcher.chain.signature import Signature, abi_signature, errors_in_abi, find_in_abi, parse_signature
from watcher.chain.task_log import TaskLog
from watcher.document import parse as parse_json
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Call, Responded, Task

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
        self.method = shape.call.method
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
        self.latest_task_num = _view(shape.task.count_view, number_of)
        self.all_task_hashes = _view(shape.task.hash_view, hash_or_none)
        self.all_task_responses = _view(shape.response.hash_view if shape.response else None, hash_or_none)
        self.response_window = _view(shape.deadline.window_view, window_of)
        self.aggregator = View(shape.call.sender_view, address_or_none)
        self.window_blocks = shape.deadline.window_blocks
        arguments = [*shape.call.types, NON_SIGNERS]
        self._arguments = ",".join(arguments)
        self._params = Recipe(shape.call.types, shape.call.values, self.created, self.answer.kind)
        self._unsigned = Recipe(arguments, [*shape.call.values, _NO_SIGNERS], self.created, self.answer.kind)
        signed = shape.signed
        self._signed = Recipe(signed.types, signed.values, self.created, self.answer.kind, packed=signed.packed)
        self._signs_raw = shape.signed.raw

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
    def has_proxy(self) -> bool:
        """True when the proxy API can serve it: that builds the wizard's own structs from a message of bytes."""
        payload = self._tasks.payload
        return payload is not None and payload.kind == self.answer.kind == "bytes"

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

    def call(self, task: Task, answer: bytes) -> Call:
        """The answer as the contract takes it. Raises Quarantine when it does not fit."""
        scope = self._scope(task, answer)
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
        return self.selector() + self._unsigned.encode(self._scope(task, answer))

    def selector(self, method: str = "") -> bytes:
        """What the call data of the response function begin with, or of another one with the same arguments."""
        return topic(f"{method or self.method}({self._arguments})")[:4]

    def _scope(self, task: Task, answer: bytes) -> Scope:
        return Scope(task, self._tasks.values_of(task), self.answer.value_of(answer))


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
    inputs = parse_signature(f"answer({kind})").inputs
    if len(inputs) != 1:
        raise FixConfiguration(f"answer: {kind[:60]!r} is not one type; several values together are a tuple: (a,b)")
    return inputs[0].type


def _view(signature: str | None, read: Callable[[bytes], Any]) -> View[Any] | None:
    return None if signature is None else View(str(parse_signature(signature)), read)
