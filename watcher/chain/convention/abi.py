"""Contract data by the ABI: structs, event topics and views. Pure.

eth-abi is the authority. Data in canonical form, which is what contracts emit, is read by a shorter way that is many
times faster and gives the same values; anything else goes through eth-abi.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from eth_abi.codec import ABICodec
from eth_abi.registry import registry
from eth_utils.crypto import keccak

from watcher.chain.rpc.replies import Reverted, Unread
from watcher.errors import Quarantine, RetryElsewhere

T = TypeVar("T")

_ABI = ABICodec(registry)
_WORD = 32


class NoSuchView(RetryElsewhere):
    """The node says that the contract has no such function, or that there is no contract.

    At start that means a wrong address or convention, to be fixed by a person; later on, a node to be asked again.
    """


def topic(signature: str) -> bytes:
    """The first topic of an event, from its canonical signature such as `NewTask(uint32,bytes)`."""
    return keccak(text=signature)


class _NotCanonical(Exception):
    """The shorter way does not apply."""


# Reads the value whose head is at `place` inside the tuple that starts at `start`, and whose tail, if any, must begin
# at `tail`. Returns the value and where the next tail begins.
_Reader = Callable[[bytes, int, int, int], tuple[Any, int]]


class Codec:
    """Arguments of the given ABI types, as `abi.encode` lays them out. Built once, used for every log."""

    __slots__ = ("_head", "_read", "types")

    def __init__(self, *types: str) -> None:
        self.types = types
        readers = [_reader(kind) for kind in types]
        self._head = sum(size for size, _ in readers)
        self._read = _sequence(readers)

    def encode(self, values: Sequence[Any]) -> bytes:
        """abi.encode(values)."""
        return _ABI.encode(self.types, values)

    def decode(self, data: bytes) -> tuple[tuple[Any, ...], bytes]:
        """The values in `data`, and their canonical encoding (which is `data` itself unless somebody was creative).

        Raises Quarantine when `data` does not hold such values.
        """
        try:
            values, end = self._read(data, 0, 0, self._head)
            if end == len(data):
                return values, data
        except _NotCanonical:
            pass
        try:
            values = _ABI.decode(self.types, data)
            return values, self.encode(values)
        except Exception as error:  # noqa: BLE001 - eth-abi raises OverflowError and others beside its own
            raise Quarantine(f"the data is not abi.encode({', '.join(self.types)}): {type(error).__name__}") from None


def _reader(kind: str) -> tuple[int, _Reader]:
    """The size of a type's head in bytes, and how to read it."""
    if kind.startswith("("):
        inner = [_reader(part) for part in _parts(kind)]
        size = sum(head for head, _ in inner)
        read = _sequence(inner)
        if _is_static(kind):
            # A static tuple lies in its parent's head and leaves the parent's tail alone.
            return size, lambda data, _start, place, tail: (read(data, place, place, tail)[0], tail)
        return _WORD, _dynamic(lambda data, at: read(data, at, at, at + size))
    if kind == "bytes":
        return _WORD, _dynamic(_octets)
    if kind == "bytes32":
        return _WORD, lambda data, _start, place, tail: (_slice(data, place, place + _WORD), tail)
    if match := re.fullmatch(r"uint(\d+)", kind):
        return _WORD, _unsigned(1 << int(match.group(1)))
    return _WORD, _unsupported


def _sequence(readers: Sequence[tuple[int, _Reader]]) -> _Reader:
    def read(data: bytes, start: int, place: int, tail: int) -> tuple[Any, int]:
        values = []
        for size, part in readers:
            value, tail = part(data, start, place, tail)
            values.append(value)
            place += size
        return tuple(values), tail

    return read


def _dynamic(body: Callable[[bytes, int], tuple[Any, int]]) -> _Reader:
    def read(data: bytes, start: int, place: int, tail: int) -> tuple[Any, int]:
        if int.from_bytes(_slice(data, place, place + _WORD)) != tail - start:
            raise _NotCanonical
        return body(data, tail)

    return read


def _unsigned(limit: int) -> _Reader:
    def read(data: bytes, _start: int, place: int, tail: int) -> tuple[Any, int]:
        value = int.from_bytes(_slice(data, place, place + _WORD))
        if value >= limit:
            raise _NotCanonical
        return value, tail

    return read


def _octets(data: bytes, at: int) -> tuple[bytes, int]:
    begin = at + _WORD
    end = begin + int.from_bytes(_slice(data, at, begin))
    padded = end + (begin - end) % _WORD
    if len(data) < padded or any(data[end:padded]):
        raise _NotCanonical
    return data[begin:end], padded


def _slice(data: bytes, begin: int, end: int) -> bytes:
    if len(data) < end:
        raise _NotCanonical
    return data[begin:end]


def _unsupported(_data: bytes, _start: int, _place: int, _tail: int) -> tuple[Any, int]:
    raise _NotCanonical


def _is_static(kind: str) -> bool:
    return all(map(_is_static, _parts(kind))) if kind.startswith("(") else bool(re.fullmatch(r"uint\d+|bytes32", kind))


def _parts(kind: str) -> list[str]:
    """The types inside a tuple type, at its top level."""
    parts, depth = [""], 0
    for letter in kind[1:-1]:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


@cache
def _selector(signature: str) -> bytes:
    return keccak(text=signature)[:4]


@dataclass(frozen=True, slots=True)
class View(Generic[T]):
    """A view function, and the word of its answer that counts.

    `arguments` are words of 32 bytes, None where the index stands. `word` is a position from 0; None: the answer must
    be one word. `address` is 20 bytes, None for the contract that emits the events.
    """

    signature: str
    read_word: Callable[[bytes], T]
    arguments: tuple[bytes | None, ...] = ()
    word: int | None = None
    address: bytes | None = None

    @property
    def selector(self) -> bytes:
        """The first four bytes of the call data."""
        return _selector(self.signature)

    def call(self, index: int = 0) -> bytes:
        """The call data; `index` is a uint256."""
        words = [index.to_bytes(_WORD) if one is None else one for one in self.arguments]
        return self.selector + b"".join(words)

    def read(self, answer: bytes | Reverted | Unread) -> T:
        """The value in what eth_call gave.

        Raises NoSuchView for a revert or an empty answer, RetryElsewhere for an answer that lacks the word.
        """
        if isinstance(answer, Unread):
            raise RetryElsewhere(f"{self.signature} could not be read: {answer.reason}")
        if isinstance(answer, Reverted) or not answer:
            how = f"it reverts: {answer.words}" if isinstance(answer, Reverted) else "the answer is empty"
            raise NoSuchView(
                f"the contract has no {self.signature} ({how}); check task_manager.address, task_manager.convention"
                " and chain.chain_id"
            )
        if self.word is None and len(answer) != _WORD:
            raise RetryElsewhere(f"{self.signature} answered with {len(answer)} bytes instead of 32")
        begin = _WORD * (self.word or 0)
        if len(answer) % _WORD or len(answer) < begin + _WORD:
            raise RetryElsewhere(f"{self.signature} answered with {len(answer)} bytes, and has no word {self.word}")
        return self.read_word(answer[begin : begin + _WORD])


def item(view: View[T], answer: bytes | Reverted | Unread) -> T | Unread:
    """Return one of many readings of `view`, or why this one alone could not be had."""
    if isinstance(answer, Reverted):
        return Unread(f"{view.signature} reverts for it: {answer.words}", reverted=True)
    try:
        return view.read(answer)
    except RetryElsewhere as error:
        return Unread(str(error))


def number_of(word: bytes) -> int:
    """A word as an unsigned number."""
    return int.from_bytes(word)


# The contracts of the conventions hold a window in 32 bits. Added to any block, so much stays what a database holds.
_WINDOW_MAX = 2**32 - 1


def window_of(word: bytes) -> int:
    """A word as a window in blocks; what is longer than all time to come counts as the longest there is."""
    return min(int.from_bytes(word), _WINDOW_MAX)


def window_before(word: bytes) -> int:
    """A word as a window whose last block is already too late; a window of nothing stays one."""
    return max(0, window_of(word) - 1)


def address_or_none(word: bytes) -> bytes | None:
    """A word as an address; None for zero."""
    return word[-20:] if any(word) else None


def hash_or_none(word: bytes) -> bytes | None:
    """A word as a hash; None for zero, which is what a mapping holds where nothing was stored."""
    return word if any(word) else None


def word_if(
    word: bytes, *, equals: Collection[bytes] | None = None, not_equals: Collection[bytes] | None = None
) -> bytes | None:
    """A word that says yes: one of `equals`, or none of `not_equals`; None for one that says no."""
    says_yes = word in equals if equals is not None else word not in (not_equals or ())
    return word if says_yes else None
