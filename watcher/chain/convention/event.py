"""One kind of log: its values by name, and values inside them by path. Pure.

Invariant: `decode` gives the values in the order of the signature together with their canonical encoding, from which
the same values can be read again; a log that is none of this kind raises Quarantine, and nothing else.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.signature import Parameter, Signature
from watcher.errors import FixConfiguration, Quarantine
from watcher.validation import brief, shortened

_WORD = 32
_INDEXED_LIMIT = 3
# What names a task by itself, and not by its hash: field.index_of.
_NUMBER = re.compile(r"u?int\d+|bytes32")

Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lies inside the values of an event."""

    parameter: Parameter
    steps: tuple[int, ...]

    def read(self, values: Values) -> Any:
        """The value."""
        found: Any = values
        for step in self.steps:
            found = found[step]
        return found


class Event:
    """Decodes the logs of one event."""

    def __init__(self, signature: Signature) -> None:
        _must_be_told_apart(signature.inputs, signature.name)
        self.signature = signature
        self.topic = signature.topic
        self._indexed = [(at, _topic_codec(one)) for at, one in enumerate(signature.inputs) if one.indexed]
        self._plain = [at for at, one in enumerate(signature.inputs) if not one.indexed]
        if len(self._indexed) > _INDEXED_LIMIT:
            raise FixConfiguration(
                f"{signature.name} has {len(self._indexed)} indexed values; a log holds at most three"
            )
        self._data = Codec(*(signature.inputs[at].type for at in self._plain))
        self.plain_names = [self._name(signature.inputs, at) for at in self._plain]

    def decode(self, topics: Sequence[bytes], data: bytes) -> tuple[Values, bytes]:
        """The values in order, and abi.encode of those that are not indexed.

        An indexed value of dynamic type is the hash of it, 32 bytes: the log holds no more.
        """
        if len(topics) != len(self._indexed) + 1 or topics[0] != self.topic:
            raise Quarantine(f"not a {self.signature.name} log: it must have {len(self._indexed) + 1} topics")
        plain, canonical = self._data.decode(data)
        if not self._indexed:
            return plain, canonical
        values: list[Any] = [None] * len(self.signature.inputs)
        for at, value in zip(self._plain, plain, strict=True):
            values[at] = value
        for (at, codec), word in zip(self._indexed, topics[1:], strict=True):
            (values[at],), _ = codec.decode(word)
        return tuple(values), canonical

    def pack(self, topics: Sequence[bytes], canonical: bytes) -> bytes:
        """Topics and canonical data in one string, as `unpack` reads it."""
        return b"".join(topics) + canonical

    def unpack(self, packed: bytes) -> tuple[Values, bytes]:
        """What `decode` gave for the log that was packed. Raises Quarantine."""
        end = _WORD * (len(self._indexed) + 1)
        return self.decode([packed[at : at + _WORD] for at in range(0, end, _WORD)], packed[end:])

    def place(self, path: str, *, as_name: bool = False) -> Place:
        """Where `task.message` is: names, or positions from 0, with dots. Raises FixConfiguration.

        `as_name`: the value only tells one task from another, so that the hash of it will do.
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
        """The values by name; structs are dicts, arrays are lists."""
        return {
            self._name(self.signature.inputs, at): _named(one, value, hashed=one.is_hashed)
            for at, (one, value) in enumerate(zip(self.signature.inputs, values, strict=True))
        }

    def leads_with(self, place: Place) -> bool:
        """True where the value is, as a number, the first topic after the event's own: its log can be asked for."""
        first, parameter = self._indexed[0][0] if self._indexed else None, place.parameter
        return place.steps == (first,) and (parameter.is_hashed or bool(_NUMBER.fullmatch(parameter.type)))

    @staticmethod
    def _name(inputs: Sequence[Parameter], at: int) -> str:
        return inputs[at].name or str(at)

    def _paths(self, inputs: Sequence[Parameter], before: str) -> Iterator[str]:
        for at, one in enumerate(inputs):
            path = before + self._name(inputs, at)
            yield path
            if one.is_tuple:
                yield from self._paths(one.components, path + ".")


def _topic_codec(parameter: Parameter) -> Codec:
    return Codec("bytes32" if parameter.is_hashed else parameter.type)


def _must_be_told_apart(inputs: Sequence[Parameter], where: str) -> None:
    """A path, and a hook that reads by name, must not meet two of a name."""
    names = Counter(one.name for one in inputs if one.name)
    twice = [name for name, times in names.items() if times > 1]
    if twice:
        raise FixConfiguration(f"{where} has two values called {brief(twice[0])}")
    for one in inputs:
        _must_be_told_apart(one.components, f"{where}.{one.name}")


def _named(parameter: Parameter, value: Any, *, hashed: bool = False) -> Any:
    if hashed or not parameter.components:
        return list(value) if isinstance(value, tuple) else value
    if parameter.is_tuple:
        names: Mapping[str, Any] = {
            one.name or str(at): _named(one, value[at]) for at, one in enumerate(parameter.components)
        }
        return dict(names)
    item = Parameter("", parameter.type[: parameter.type.rindex("[")], parameter.components)
    return [_named(item, one) for one in value]
