"""Which logs of a shared contract are ours: those whose values are the constants of `only`. Pure."""

from collections.abc import Mapping

from eth_utils.crypto import keccak

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.constant import Constant, constant
from watcher.chain.convention.event import Event, Place, Values
from watcher.errors import FixConfiguration
from watcher.validation import brief

Only = Mapping[str, Constant | list[Constant]]


class LogFilter:
    """Compares values of one event with constants; every path must hold one of its constants.

    Raises FixConfiguration for a path the event does not have and a constant of another type.
    """

    def __init__(self, event: Event, only: Only) -> None:
        places = [(event.place(path, as_name=True), path, choices) for path, choices in only.items()]
        self._allowed = [(place, _encodings(place, path, choices)) for place, path, choices in places]

    def takes(self, values: Values) -> bool:
        """True for the values of a log of ours."""
        return all(_encoded(place, place.read(values)) in allowed for place, allowed in self._allowed)


def _encodings(place: Place, path: str, choices: Constant | list[Constant]) -> frozenset[bytes]:
    kind = place.parameter.type
    try:
        values = [constant(one, kind) for one in (choices if isinstance(choices, list) else [choices])]
    except FixConfiguration as wrong:
        raise FixConfiguration(f"only: {brief(path)}: {wrong}") from None
    if place.parameter.is_hashed:
        return frozenset(keccak(one.encode() if isinstance(one, str) else one) for one in values)
    return frozenset(Codec(kind).encode([one]) for one in values)


def _encoded(place: Place, value: object) -> bytes:
    return (
        value if isinstance(value, bytes) and place.parameter.is_hashed else Codec(place.parameter.type).encode([value])
    )
