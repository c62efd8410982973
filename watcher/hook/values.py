"""The values of a hook with types: a task's message decoded for it, and its answer encoded.

Standard library only, because a worker imports it. Invariant: for any message, and any value of a hook, each function
here returns or raises AttemptFailed; a value is never converted to another type, because the bytes are signed.
"""

import hashlib
import inspect
from dataclasses import dataclass, fields
from typing import Any

from watcher.abi.decode import checksummed
from watcher.abi.json_form import as_text
from watcher.abi.layout import Layout, Misfit, layout
from watcher.errors import AttemptFailed
from watcher.task import DecodedTask, Later, Skip, Task
from watcher.text import clean, to_hex

_TYPE_CHARS = 200
_TEXT_CHARS = 300
_TASK_FIELDS = tuple(field.name for field in fields(Task) if field.name != "message")


@dataclass(frozen=True, slots=True)
class ValueTypes:
    """The settings hook.message and hook.response: the ABI types of messages and answers; "" stands for bytes."""

    message: str = ""
    response: str = ""

    def added_to(self, version: str) -> str:
        """Return the version of a hook's code, `NAME@HASH`, with these types in its hash."""
        if self == ValueTypes():
            return version
        name, _, digest = version.rpartition("@")
        content = "\0".join([digest, self.message, self.response]).encode()
        return f"{name}@{hashlib.sha256(content).hexdigest()[: len(digest)]}"


class Values:
    """The decoder of messages and the encoder of answers. Raises BadType for types that `ValueTypes` cannot name."""

    def __init__(self, types: ValueTypes) -> None:
        self._message = layout("message", types.message)
        self._response = layout("response", types.response)
        if "address" in types.message:
            checksummed(bytes(20))  # The first one loads a library, which must cost no task its time.

    @property
    def is_message_decoded(self) -> bool:
        """Return True if messages have types."""
        return self._message is not None

    @property
    def are_typed(self) -> bool:
        """Return True if messages or answers have types."""
        return self._message is not None or self._response is not None

    @property
    def is_answer_encoded(self) -> bool:
        """Return True if answers have types."""
        return self._response is not None

    def decoded(self, task: Task) -> Task:
        """Return the task as the hook gets it: with types, a `DecodedTask`.

        Raises:
            AttemptFailed: its message does not decode.
        """
        if self._message is None:
            return task
        kept = {name: getattr(task, name) for name in _TASK_FIELDS}
        return DecodedTask(message=_decoded(self._message, task.message), raw_message=task.message, **kept)

    def message_form(self, task: Task) -> Any:
        """Return the message in its JSON form: its values, without types 0x hex.

        Raises:
            AttemptFailed: it does not decode.
        """
        if self._message is None:
            return to_hex(task.message)
        return self._message.to_json(_decoded(self._message, task.message))

    def message_text(self, task: Task) -> str:
        """Return the values of the message on one line, cut and escaped; "" without types, or if it does not decode."""
        return _text(self._message, task.message)

    def answer_text(self, answer: bytes) -> str:
        """Return the values of an answer on one line, cut and escaped; "" without types."""
        return _text(self._response, answer)

    def encoded(self, answer: object) -> object:
        """Return an answer as bytes; a verdict stays, and without types everything does.

        Raises:
            AttemptFailed: it is not of its type; the message names the field.
        """
        if self._response is None or isinstance(answer, Skip | Later):
            return answer
        try:
            return self._response.encode(answer)
        except Misfit as misfit:
            if isinstance(answer, type) or inspect.isawaitable(answer) or inspect.isgenerator(answer):
                return answer  # `checked_result` knows what its author meant.
            hint = "; where hook.response is set, a hook returns values" if isinstance(answer, bytes) else ""
            raise AttemptFailed(_wrong(self._response, misfit) + hint) from None

    def encoded_form(self, answer: Any) -> bytes:
        """Return an answer in the JSON form as bytes. Answers must have types.

        Raises:
            AttemptFailed: it is not of its type; the message names the field.
        """
        assert self._response is not None, "an answer without types is hex"
        try:
            return self._response.encode_json(answer)
        except Misfit as misfit:
            raise AttemptFailed(_wrong(self._response, misfit)) from None

    def check_message(self, task: Task) -> None:
        """Check the message for a hook that gets its bytes. Raises AttemptFailed if it does not decode."""
        if self._message is not None:
            _decoded(self._message, task.message)

    def check_answer(self, answer: bytes) -> None:
        """Check the bytes of a hook that answers with bytes.

        Raises:
            AttemptFailed: they are not what `abi.encode` makes of such values.
        """
        if self._response is None:
            return
        kind = _type(self._response)
        try:
            is_canonical = self._response.is_canonical(answer)
        except Misfit as misfit:
            raise AttemptFailed(f"the answer is not {kind}: {_wrong(self._response, misfit)}") from None
        if not is_canonical:
            raise AttemptFailed(f"the answer is not {kind} in the form that abi.encode gives it")


BYTES = Values(ValueTypes())


def _decoded(message: Layout, data: bytes) -> Any:
    try:
        return message.decode(data)
    except Misfit as misfit:
        raise AttemptFailed(
            f"the message is not {_type(message)}, as hook.message says: {_wrong(message, misfit)}"
            f" (at byte {misfit.byte} of {len(data)})"
        ) from None


def _text(values: Layout | None, data: bytes) -> str:
    if values is None:
        return ""
    try:
        return clean(as_text(values.to_json(values.decode(data))), _TEXT_CHARS)
    except Misfit:
        return ""


def _wrong(values: Layout, misfit: Misfit) -> str:
    return f"{clean(misfit.place(values.name), _TYPE_CHARS)}: {misfit.reason}"


def _type(values: Layout) -> str:
    return clean(str(values), _TYPE_CHARS)
