"""How a convention file names a view: `"hashes(uint32)"`, or a table where more must be said. Pure.

hash_view = {view = "batchesState(bytes32)", word = 1}
hash_view = {view = "getTaskStatus(bytes32)", equals = 2}
hash_view = {view = "allTaskHashes(uint8,uint32)", arguments = [0, "$index"]}
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.constant import Constant, constant
from watcher.chain.convention.signature import Signature, parse_signature
from watcher.chain.convention.table import NAME, Address, Line, Table, octets_of
from watcher.errors import FixConfiguration

INDEX = "$index"
_PLAIN = re.compile(rf"{NAME}\(\)")
_BY_INDEX = re.compile(rf"{NAME}\((u?int\d*|bytes32)\)")
# One word each: what a selector's arguments are laid out as without heads and tails.
_STATIC = re.compile(r"u?int\d+|bytes\d+|bool|address")
_INDEX_TYPES = re.compile(r"u?int\d+|bytes32")
_ARGUMENTS_LIMIT = 8
_LINE_LIMIT_CHARS = 200

Word = Annotated[int, Field(ge=0, le=63)]


def _word_of(given: Any) -> bytes:
    """A constant as the 32-byte word that a view gives. Raises ValueError."""
    if isinstance(given, int) and -(2**255) <= given < 2**256:
        return (given % 2**256).to_bytes(32)
    if isinstance(given, str) and re.fullmatch(r"0x([0-9a-fA-F]{64}|[0-9a-fA-F]{40})", given):
        return bytes.fromhex(given[2:]).rjust(32, b"\0")
    raise ValueError("must be a whole number, true, false, or 0x and the 64 digits of a word (40 of an address)")


def _words(given: Any) -> Any:
    choices = given if isinstance(given, list) else [given]
    if not 1 <= len(choices) <= 16:
        raise ValueError("must be a value, or a list of 1 to 16 values")
    return tuple(_word_of(one) for one in choices)


Words = Annotated[tuple[bytes, ...], BeforeValidator(_words)]


class ViewShape(Table):
    """A view function: its signature, what stands for its parameters, and the word of its answer that counts.

    `arguments`: constants and `$index`; left out, a function of one parameter takes the index. `word` is a position
    from 0; left out, the answer must be one word. `equals` and `not_equals` hold 32-byte words: the view says yes where
    it gives one of those, or none of those. `address` is another contract than the one that emits the events.
    """

    view: Line
    arguments: list[Constant] | None = None
    word: Word | None = None
    equals: Words | None = None
    not_equals: Words | None = None
    address: Address | None = None

    @model_validator(mode="after")
    def _callable(self) -> "ViewShape":
        if self.equals is not None and self.not_equals is not None:
            raise ValueError("give equals or not_equals, not both")
        kinds = [one.type for one in self.signature.inputs]
        if self.arguments is None and len(kinds) > 1:
            raise ValueError(f'{self.view[:60]} has {len(kinds)} parameters: give arguments, such as [0, "$index"]')
        if len(kinds) != len(self.values) or len(kinds) > _ARGUMENTS_LIMIT:
            raise ValueError(f"arguments: {len(self.values)} values for {len(kinds)} parameters")
        for kind, value in zip(kinds, self.values, strict=True):
            if not _STATIC.fullmatch(kind):
                raise ValueError(f"arguments: {kind[:60]} is more than one word, and such a view cannot be asked")
            if value == INDEX and not _INDEX_TYPES.fullmatch(kind):
                raise ValueError(f"arguments: $index is a whole number or bytes32, and cannot stand for {kind[:60]}")
            if value != INDEX:
                _argument(value, kind)
        return self

    @property
    def signature(self) -> Signature:
        """The function. Raises ValueError for what is none."""
        try:
            return parse_signature(self.view)
        except FixConfiguration as wrong:
            raise ValueError(str(wrong)) from None

    @property
    def values(self) -> list[Constant]:
        """One value for each parameter."""
        if self.arguments is not None:
            return self.arguments
        return [INDEX] * len(self.signature.inputs)

    @property
    def address_bytes(self) -> bytes | None:
        """The contract the view is of, 20 bytes; None where the table it stands in says."""
        return octets_of(self.address)

    @property
    def words(self) -> tuple[bytes | None, ...]:
        """The arguments as words of 32 bytes, None where the index stands."""
        kinds = [one.type for one in self.signature.inputs]
        return tuple(
            None if value == INDEX else _argument(value, kind) for value, kind in zip(self.values, kinds, strict=True)
        )

    @property
    def says_yes_or_no(self) -> bool:
        """True where the word is compared with constants, so that it is no hash."""
        return self.equals is not None or self.not_equals is not None


def _argument(value: Constant, kind: str) -> bytes:
    try:
        return Codec(kind).encode([constant(value, kind)])
    except FixConfiguration as wrong:
        raise ValueError(f"arguments: {wrong}") from None


def _written(pattern: re.Pattern[str], example: str) -> BeforeValidator:
    def table(given: Any) -> Any:
        if isinstance(given, str):
            if len(given) > _LINE_LIMIT_CHARS or not pattern.fullmatch(given):
                raise ValueError(f"must be {example}; a table {{view, arguments, word, equals}} says more")
            return {"view": given}
        if not isinstance(given, dict):
            raise ValueError(f"must be {example}, or a table {{view, arguments, word, equals}}")
        return given

    return BeforeValidator(table)


def _by_index(view: ViewShape) -> ViewShape:
    if INDEX not in view.values:
        raise ValueError('arguments: no parameter takes the index; write "$index" where it stands')
    return view


def _plain(view: ViewShape) -> ViewShape:
    if INDEX in view.values:
        raise ValueError("arguments: this view is asked once for all tasks and cannot take $index; write constants")
    if view.says_yes_or_no:
        raise ValueError("this view gives a value and is compared with nothing; leave equals and not_equals out")
    return view


PlainView = Annotated[ViewShape, AfterValidator(_plain), _written(_PLAIN, "a function without arguments, as count()")]
IndexedView = Annotated[
    ViewShape, AfterValidator(_by_index), _written(_BY_INDEX, "a function of the index, such as hashes(uint32)")
]
