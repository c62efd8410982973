"""Views of a contract: the call data, the word of the reply that counts, and that word as a value. Pure."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

from watcher.chain.convention.abi import topic
from watcher.chain.rpc.replies import Reverted, Unread
from watcher.errors import RetryElsewhere

T = TypeVar("T")

_WORD = 32
_ZERO = bytes(_WORD)
_UINT256_MAX = 2**256 - 1
# The known contracts hold a window in 32 bits. A block plus such a window fits the 64-bit columns of the ledger.
_WINDOW_MAX = 2**32 - 1


class NoSuchView(RetryElsewhere):
    """A node's statement that the contract lacks the function, or that there is no contract.

    At start a person must correct the address or the convention; later on another node is asked.
    """


@cache
def _selector(signature: str) -> bytes:
    return topic(signature)[:4]


@dataclass(frozen=True, slots=True)
class View(Generic[T]):
    """A view function, and the word of its reply that counts.

    `read_word` turns that word into a value. `arguments` are words of 32 bytes, None where the index stands. `word` is
    a position from 0; None: the reply must be one word. `address` is 20 bytes, None for the contract of the events.
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
        """Return the call data; `index` is a uint256."""
        arguments = [index.to_bytes(_WORD) if argument is None else argument for argument in self.arguments]
        return self.selector + b"".join(arguments)

    def read(self, answer: bytes | Reverted | Unread) -> T:
        """Return the value in the reply of eth_call.

        Raises:
            NoSuchView: the call reverted, or the reply is empty.
            RetryElsewhere: no reply was to be had, or it lacks the word.
        """
        if self.word is None and type(answer) is bytes and len(answer) == _WORD:
            return self.read_word(answer)
        if isinstance(answer, Unread):
            raise RetryElsewhere(f"{self.signature} could not be read: {answer.reason}")
        if isinstance(answer, Reverted) or not answer:
            how = f"it reverts: {answer.message}" if isinstance(answer, Reverted) else "the reply is empty"
            raise NoSuchView(
                f"the contract has no {self.signature} ({how}); check task_manager.address, task_manager.convention"
                " and chain.chain_id"
            )
        if self.word is None:
            raise RetryElsewhere(f"{self.signature} returned {len(answer)} bytes instead of 32")
        begin = _WORD * self.word
        if len(answer) % _WORD or len(answer) < begin + _WORD:
            raise RetryElsewhere(f"{self.signature} returned {len(answer)} bytes, which hold no word {self.word}")
        return self.read_word(answer[begin : begin + _WORD])


def item(view: View[T], answer: bytes | Reverted | Unread) -> T | Unread:
    """Return the value in one reply of a batch, or why this reply alone holds none."""
    if isinstance(answer, Reverted):
        return Unread(f"{view.signature} reverts for it: {answer.message}", reverted=True)
    try:
        return view.read(answer)
    except RetryElsewhere as error:
        return Unread(str(error))


def number_of(word: bytes) -> int:
    """Return the word as an unsigned number."""
    return int.from_bytes(word)


def next_index(word: bytes, *, first_index: int, is_count: bool) -> int:
    """Return the next index, `first_index` where there is no task yet.

    Args:
        word: the word of `task.count_view`.
        first_index: the lowest index, `task.first_index`.
        is_count: the word is the number of tasks; otherwise it is the next index.
    """
    number = int.from_bytes(word)
    return min(number + first_index, _UINT256_MAX) if is_count else max(number, first_index)


def window_of(word: bytes) -> int:
    """Return the word as a window in blocks, 2**32 - 1 at most."""
    return min(int.from_bytes(word), _WINDOW_MAX)


def window_before(word: bytes) -> int:
    """Return the window in blocks up to the last admissible block, where the word names the first late one."""
    return max(0, window_of(word) - 1)


def address_or_none(word: bytes) -> bytes | None:
    """Return the word as an address, 20 bytes; None for zero."""
    return word[-20:] if any(word) else None


def hash_or_none(word: bytes) -> bytes | None:
    """Return the word as a hash; None for zero, the content of a mapping where nothing was stored."""
    return None if word == _ZERO else word


def word_if(
    word: bytes, *, equals: Collection[bytes] | None = None, not_equals: Collection[bytes] | None = None
) -> bytes | None:
    """Return the word if it means yes, None otherwise.

    Args:
        word: the word of a view.
        equals: the words that mean yes, or None.
        not_equals: the words that mean no, where `equals` is None.
    """
    matches = word in equals if equals is not None else word not in (not_equals or ())
    return word if matches else None
