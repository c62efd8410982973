"""How an answer is sent: the function's arguments and the digest that operators sign: [call] and [signed]. Pure."""

from eth_utils.crypto import keccak

from watcher.chain.convention.abi import topic
from watcher.chain.convention.calldata import Constant, Recipe, Scope
from watcher.chain.convention.event import Event
from watcher.chain.convention.expression import Expression
from watcher.chain.convention.schema import CallShape, Signed
from watcher.chain.convention.signature import empty_value
from watcher.errors import Quarantine
from watcher.task import Call

_PERCENT = 100


class AnswerCall:
    """Builds calls of one function. Raises FixConfiguration where the shape asks for what the event does not have."""

    def __init__(self, call: CallShape, signed: Signed, event: Event, answer_type: str) -> None:
        self.method = call.method
        types, values = list(call.types), list[Expression | Constant](call.values)
        if call.signature_type:
            place = len(types) if call.signature_at is None else call.signature_at
            types.insert(place, call.signature_type)
            values.insert(place, Constant(empty_value(call.signature_type)))
        self._arguments = ",".join(types)
        self.function = f"{self.method}({self._arguments})"
        self._params = Recipe(call.types, call.values, event, answer_type)
        self._unsigned = Recipe(types, values, event, answer_type)
        self._signed = Recipe(signed.types, signed.values, event, answer_type, packed=signed.packed)
        self._signs_raw = signed.raw

    def call(self, scope: Scope) -> Call:
        """The answer as the contract takes it. Raises Quarantine when it does not fit."""
        task, signed = scope.asked, self._signed.encode(scope)
        if task.quorum_threshold > _PERCENT:
            raise Quarantine(
                f"task {task.task_index} asks for {task.quorum_threshold} % of the stake, more than there is; see to"
                " task.quorum_threshold, and to task.threshold_scale where it is in other parts than percent"
            )
        return Call(
            method=self.method,
            params_raw=self._params.encode(scope),
            sig_hash=signed if self._signs_raw else keccak(signed),
            reference_block=scope.reference_block,
            quorum_numbers=tuple(task.quorum_numbers),
            quorum_thresholds=(task.quorum_threshold,) * len(task.quorum_numbers),
        )

    def dry_run(self, scope: Scope) -> bytes:
        """Call data with an empty signature. Raises Quarantine when the answer does not fit."""
        return self.selector() + self._unsigned.encode(scope)

    def selector(self, method: str = "") -> bytes:
        """The first four bytes of the call data, or those of another function with the same arguments."""
        return topic(f"{method or self.method}({self._arguments})")[:4]
