"""What names a task in a log, as a number: one field, or the hash of several. Pure."""

from eth_utils.crypto import keccak

from watcher.chain.convention.calldata import Recipe, Scope
from watcher.chain.convention.event import Event, Values
from watcher.chain.convention.expression import Encoding
from watcher.chain.convention.fields import index_of

_UINT256_MAX = 2**256 - 1


def next_index(word: bytes, *, first_index: int, is_count: bool) -> int:
    """The next index by the word of `task.count_view`, `first_index` where there is no task yet.

    `is_count`: the word is the number of tasks, or else the next index.
    """
    number = int.from_bytes(word)
    return min(number + first_index, _UINT256_MAX) if is_count else max(number, first_index)


class Index:
    """Reads the index of one kind of log.

    One path: index_of. Several paths: keccak256(abi.encode(values)). An Encoding: keccak256 of what it puts together.

    Raises FixConfiguration for what the event does not have.
    """

    def __init__(self, naming: str | tuple[str, ...] | Encoding, event: Event) -> None:
        self._place = event.place(naming, as_name=True) if isinstance(naming, str) else None
        self.is_topic = self._place is not None and event.leads_with(self._place)
        if isinstance(naming, tuple):
            places = [event.place(path, as_name=True) for path in naming]
            types = ["bytes32" if one.parameter.is_hashed else one.parameter.type for one in places]
            naming = Encoding(tuple(types), naming)
        self._recipe = None
        if isinstance(naming, Encoding):
            self._recipe = Recipe(naming.types, naming.values, event, None, packed=naming.packed)

    def of(self, values: Values) -> int:
        """The index, a uint256. Raises Quarantine for values that give none."""
        if self._recipe is None:
            assert self._place is not None, "one path, or what is put together"
            return index_of(self._place, values)
        return int.from_bytes(keccak(self._recipe.encode(Scope(None, values, None))))
