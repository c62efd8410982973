"""The call that sends an answer: its arguments and the digest that operators sign, by [call] and [signed]. Pure."""

from eth_hash.auto import keccak

from watcher.chain.convention.abi import topic
from watcher.chain.convention.calldata import Encoder, Fixed, Scope
from watcher.chain.convention.event import Event
from watcher.chain.convention.expression import Expression
from watcher.chain.convention.schema import CallSchema, Signed
from watcher.chain.convention.signature import empty_value
from watcher.errors import Quarantine
from watcher.task import Call

_PERCENT = 100


class AnswerCall:
    """Calls of the function that takes answers.

    Raises:
        FixConfiguration: [call] or [signed] names a value that the event does not have.
    """

    def __init__(self, call: CallSchema, signed: Signed, event: Event, answer_type: str) -> None:
        self.method = call.method
        types, values = list(call.types), list[Expression | Fixed](call.values)
        if call.signature_type:
            position = len(types) if call.signature_at is None else call.signature_at
            types.insert(position, call.signature_type)
            values.insert(position, Fixed(empty_value(call.signature_type)))
        self._arguments = ",".join(types)
        self.function = f"{self.method}({self._arguments})"
        self._params = Encoder(call.types, call.values, event, answer_type)
        self._unsigned = Encoder(types, values, event, answer_type)
        self._signed = Encoder(signed.types, signed.values, event, answer_type, packed=signed.packed)
        self._signs_raw = signed.raw
        self._selector = self.selector()

    def call(self, scope: Scope) -> Call:
        """Return the call of an answer. Raises Quarantine when the answer does not fit."""
        task = scope.known_task
        return Call(
            method=self.method,
            params_raw=self._params.encode(scope),
            sig_hash=self.digest(scope),
            reference_block=scope.reference_block,
            quorum_numbers=tuple(task.quorum_numbers),
            quorum_thresholds=(task.quorum_threshold,) * len(task.quorum_numbers),
        )

    def digest(self, scope: Scope) -> bytes:
        """Return the digest that operators sign, 32 bytes. Raises Quarantine when the answer does not fit."""
        task, signed = scope.known_task, self._signed.encode(scope)
        if task.quorum_threshold > _PERCENT:
            raise Quarantine(
                f"task {task.task_index} asks for {task.quorum_threshold} % of the stake, more than there is; correct"
                " task.quorum_threshold, or task.threshold_scale if the threshold is not in percent"
            )
        return signed if self._signs_raw else keccak(signed)

    def dry_run(self, scope: Scope) -> bytes:
        """Return call data with an empty signature. Raises Quarantine when the answer does not fit."""
        return self._selector + self._unsigned.encode(scope)

    def selector(self, method: str = "") -> bytes:
        """Return the first four bytes of the call data, by default of the convention's own method."""
        return topic(f"{method or self.method}({self._arguments})")[:4]
