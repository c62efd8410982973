"""Bytes as people read them: hex, the value of a known type, and what they could be where no type is known.

A value of the types that hook.message and hook.response name has the JSON form of `docs/hook.schema.json`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from watcher.abi.json_form import as_text
from watcher.abi.layout import Layout, Misfit
from watcher.errors import Quarantine
from watcher.text import to_hex

_WORD_BYTES = 32
_TEXT_LIMIT_BYTES = 256
PART_LIMIT_BYTES = 4096
"""The most bytes of one message or answer in a report of many."""


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes of a message or an answer. `value` is their decoded value, None without a known type.

    `guess` says what bytes without a type could be: "uint256 21", "text hello"; "" without an idea.
    """

    hex: str
    size_bytes: int
    type: str = "bytes"
    value: Any = None
    guess: str = ""

    @property
    def text(self) -> str:
        """Return the value where it is known, else the hex with the guess behind it."""
        if self.value is not None:
            return value_text(self.value, self.type)
        return f"{self.hex} ({self.guess}?)" if self.guess else self.hex


@dataclass(frozen=True, slots=True)
class Decoder:
    """The types of one AVS: those of an answer, and the named values of a task's event.

    `answer_type` is an ABI type, "bytes" where the contract takes any bytes. `answer` decodes it. `fields` decodes the
    event of a task. Both raise Quarantine for bytes that do not fit. `message_values` and `response_values` are the
    types that the hook's author gave; None: bytes.
    """

    answer_type: str = "bytes"
    answer: Callable[[bytes], Any] = bytes
    fields: Callable[[Any], Mapping[str, Any]] = lambda _task: {}
    message_values: Layout | None = None
    response_values: Layout | None = None

    def payload_of_message(self, data: bytes) -> Payload:
        """Return a message, decoded if its type is known and it fits."""
        return _decoded(self.message_values, data) or payload(data)

    def payload_of_answer(self, data: bytes) -> Payload:
        """Return an answer, decoded if its type is known and it fits."""
        if decoded := _decoded(self.response_values, data):
            return decoded
        if self.answer_type == "bytes":
            return payload(data)
        try:
            value = plain(self.answer(data))
        except Quarantine:
            return payload(data)
        return Payload(to_hex(data), len(data), self.answer_type, value)

    def part_of_answer(self, data: bytes | None) -> Payload | None:
        """Return an answer, None for none; of one beyond `PART_LIMIT_BYTES` its begin, without a value."""
        if data is None:
            return None
        if len(data) <= PART_LIMIT_BYTES:
            return self.payload_of_answer(data)
        return Payload(to_hex(data[:PART_LIMIT_BYTES]) + "…", len(data))

    def fields_of(self, task: Any) -> dict[str, Any]:
        """Return the named values of a task's event as JSON takes them; empty where the log does not decode."""
        try:
            return {name: plain(value) for name, value in self.fields(task).items()}
        except Quarantine:
            return {}


def first_difference(left: bytes, right: bytes) -> int:
    """Return the place of the first byte in which two values differ; of equal ones, and of a begin, the end."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (byte, other) in pairs if byte != other), min(len(left), len(right)))


def payload(data: bytes) -> Payload:
    """Return bytes without a type, with a guess."""
    return Payload(to_hex(data), len(data), guess=_guess(data))


def _decoded(values: Layout | None, data: bytes) -> Payload | None:
    """Return bytes decoded; None without a type, and for bytes that do not fit."""
    if values is None:
        return None
    try:
        form = values.to_json(values.decode(data))
    except Misfit:
        return None
    return Payload(to_hex(data), len(data), str(values), form)


def value_text(value: Any, kind: str) -> str:
    """Return a value with its type behind it: `441 (uint256)`."""
    return f"{as_text(value)} {kind}" if kind.startswith("(") and kind.endswith(")") else f"{as_text(value)} ({kind})"


def plain(value: Any) -> Any:
    """Return a decoded value as JSON takes it: bytes as 0x hex, tuples as lists."""
    if isinstance(value, bytes):
        return to_hex(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _guess(data: bytes) -> str:
    if len(data) == _WORD_BYTES:
        return f"uint256 {int.from_bytes(data)}"
    if not 0 < len(data) <= _TEXT_LIMIT_BYTES:
        return ""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return ""
    return f"text {text}" if text.isprintable() else ""
