"""One kind of log: its values by name, and values inside them by path. Pure.

Invariant: `decode` returns the values in the order of the signature together with their canonical encoding, from which
`unpack` returns the same values; a log of another kind raises Quarantine, and nothing else.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.signature import Parameter, Signature
from watcher.errors import FixConfiguration, Quarantine
from watcher.validation import brief, shortened

_WORD = 32
_INDEXED_LIMIT = 3
# The last logs that were unpacked are kept as values: 3 MiB of logs of the longest kind.
_UNPACKED_KEPT = 1024
_SHORT_BYTES = 1024
# Types that are the index of a task as they are; any other type is hashed: fields.index_of.
_NUMBER = re.compile(r"u?int\d+|bytes32")

Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A position inside the values of an event."""

    parameter: Parameter
    steps: tuple[int, ...]

    def read(self, values: Values) -> Any:
        """Return the value at this position."""
        value: Any = values
        for step in self.steps:
            value = value[step]
        return value


class Event:
    """The decoder of one event's logs.

    Raises:
        FixConfiguration: two parameters have one name, or more than three are indexed.
    """

    def __init__(self, signature: Signature) -> None:
        _refuse_equal_names(signature.inputs, signature.name)
        self.signature = signature
        self.topic = signature.topic
        inputs = list(enumerate(signature.inputs))
        self._indexed = [at for at, parameter in inputs if parameter.indexed]
        self._plain = [at for at, parameter in inputs if not parameter.indexed]
        if len(self._indexed) > _INDEXED_LIMIT:
            raise FixConfiguration(
                f"{signature.name} has {len(self._indexed)} indexed values; a log holds at most three"
            )
        self._topics = Codec(*(_topic_type(signature.inputs[at]) for at in self._indexed))
        self._order = [(self._plain + self._indexed).index(at) for at, _ in inputs]
        self._data = Codec(*(signature.inputs[at].type for at in self._plain))
        self.plain_names = [self._name(signature.inputs, at) for at in self._plain]
        self._members = [(self._name(signature.inputs, at), _form(parameter)) for at, parameter in inputs]
        self._unpack_short = lru_cache(_UNPACKED_KEPT)(self._unpack)

    def decode(self, topics: Sequence[bytes], data: bytes) -> tuple[Values, bytes]:
        """Return the values in order, and abi.encode of those that are not indexed.

        An indexed value of dynamic type is its hash, 32 bytes: the log holds no more.

        Raises:
            Quarantine: the log is not of this event.
        """
        if len(topics) != len(self._indexed) + 1 or topics[0] != self.topic:
            raise Quarantine(f"not a {self.signature.name} log: it must have {len(self._indexed) + 1} topics")
        plain, canonical = self._data.decode(data)
        if not self._indexed:
            return plain, canonical
        indexed, _ = self._topics.decode(b"".join(topics[1:]))
        values = plain + indexed
        return tuple([values[at] for at in self._order]), canonical

    def pack(self, topics: Sequence[bytes], canonical: bytes) -> bytes:
        """Return topics and canonical data in one string, as `unpack` reads it."""
        return b"".join(topics) + canonical

    def unpack(self, packed: bytes) -> tuple[Values, bytes]:
        """Return the values and the encoding of a packed log, as `decode` does. Raises Quarantine.

        A task's log is read by its hook, its dry run and its request, one soon after the other.
        """
        return self._unpack_short(packed) if len(packed) <= _SHORT_BYTES else self._unpack(packed)

    def _unpack(self, packed: bytes) -> tuple[Values, bytes]:
        end = _WORD * (len(self._indexed) + 1)
        return self.decode([packed[at : at + _WORD] for at in range(0, end, _WORD)], packed[end:])

    def place(self, path: str, *, as_name: bool = False) -> Place:
        """Return the position of a path such as `task.message`: names, or positions from 0, with dots.

        `as_name`: the value only tells tasks apart, so that its hash is enough.

        Raises:
            FixConfiguration: the event has no such value, or the log holds only its hash.
        """
        inputs, steps, parameter = self.signature.inputs, [], None
        for part in path.split("."):
            at = next((i for i in range(len(inputs)) if part in (self._name(inputs, i), str(i))), None)
            if at is None:
                known = shortened(list(self._paths(self.signature.inputs, "")))
                raise FixConfiguration(
                    f"{self.signature.name} has no '{brief(path)}'; it has {known or 'no parameters'}"
                )
            parameter = inputs[at]
            steps.append(at)
            if parameter.is_hashed and not as_name:
                raise FixConfiguration(f"{brief(path)}: is indexed, and the log holds only its hash")
            inputs = parameter.components if parameter.is_tuple and not parameter.is_hashed else ()
        assert parameter is not None, "a path has at least one part"
        return Place(parameter, tuple(steps))

    def named(self, values: Values) -> dict[str, Any]:
        """Return the values by name; structs are dicts, arrays are lists."""
        return {name: form(value) for (name, form), value in zip(self._members, values, strict=True)}

    def topic_position(self, place: Place) -> int | None:
        """Return the position of the value among a log's topics, 1 to 3; None where the value is not a topic."""
        return next((i for i, at in enumerate(self._indexed, start=1) if place.steps == (at,)), None)

    def leads_with(self, place: Place) -> bool:
        """Return True if the value is, as a number, the second topic, so that a filter can ask for its log."""
        first, parameter = self._indexed[0] if self._indexed else None, place.parameter
        return place.steps == (first,) and (parameter.is_hashed or bool(_NUMBER.fullmatch(parameter.type)))

    @staticmethod
    def _name(inputs: Sequence[Parameter], at: int) -> str:
        return inputs[at].name or str(at)

    def _paths(self, inputs: Sequence[Parameter], before: str) -> Iterator[str]:
        for at, parameter in enumerate(inputs):
            path = before + self._name(inputs, at)
            yield path
            if parameter.is_tuple:
                yield from self._paths(parameter.components, path + ".")


def _topic_type(parameter: Parameter) -> str:
    return "bytes32" if parameter.is_hashed else parameter.type


def _refuse_equal_names(inputs: Sequence[Parameter], owner: str) -> None:
    """Raise FixConfiguration for two parameters of one name: paths and hooks read by name."""
    counts = Counter(parameter.name for parameter in inputs if parameter.name)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise FixConfiguration(f"{owner} has two values called {brief(repeated[0])}")
    for parameter in inputs:
        _refuse_equal_names(parameter.components, f"{owner}.{parameter.name}")


def _form(parameter: Parameter) -> Callable[[Any], Any]:
    """Return a function that gives the values in a parameter's value their names."""
    if parameter.is_hashed or not parameter.components:
        return lambda value: list(value) if isinstance(value, tuple) else value
    if parameter.is_tuple:
        members = [(member.name or str(at), _form(member)) for at, member in enumerate(parameter.components)]
        return lambda value: {name: form(part) for (name, form), part in zip(members, value, strict=True)}
    of_item = _form(Parameter("", parameter.type[: parameter.type.rindex("[")], parameter.components))
    return lambda value: [of_item(item) for item in value]
