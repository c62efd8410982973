"""A view in a convention file: `"hashes(uint32)"`, or a table with arguments, word and comparison. Pure.

hash_view = {view = "batchesState(bytes32)", word = 1}
hash_view = {view = "getTaskStatus(bytes32)", equals = 2}
hash_view = {view = "allTaskHashes(uint8,uint32)", arguments = [0, "$index"]}
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.signature import Signature, parse_signature
from watcher.chain.convention.table import NAME, Address, Constant, Line, Table, address_bytes, constant_value
from watcher.errors import FixConfiguration

INDEX = "$index"
_PLAIN = re.compile(rf"{NAME}\(\)")
_BY_INDEX = re.compile(rf"{NAME}\((u?int\d*|bytes32)\)")
# Types of one word: the call data are the selector and these words, without offsets.
_STATIC = re.compile(r"u?int\d+|bytes\d+|bool|address")
_INDEX_TYPES = re.compile(r"u?int\d+|bytes32")
_ARGUMENTS_LIMIT = 8
_LINE_LIMIT_CHARS = 200

Word = Annotated[int, Field(ge=0, le=63)]


def _word_of(raw: Any) -> bytes:
    """Return a constant as the 32-byte word that a view returns. Raises ValueError."""
    if isinstance(raw, int) and -(2**255) <= raw < 2**256:
        return (raw % 2**256).to_bytes(32)
    if isinstance(raw, str) and re.fullmatch(r"0x([0-9a-fA-F]{64}|[0-9a-fA-F]{40})", raw):
        return bytes.fromhex(raw[2:]).rjust(32, b"\0")
    raise ValueError("must be a whole number, true, false, or 0x and the 64 digits of a word (40 of an address)")


def _word_choices(raw: Any) -> Any:
    choices = raw if isinstance(raw, list) else [raw]
    if not 1 <= len(choices) <= 16:
        raise ValueError("must be a value, or a list of 1 to 16 values")
    return tuple(_word_of(choice) for choice in choices)


WordChoices = Annotated[tuple[bytes, ...], BeforeValidator(_word_choices)]


class ViewSchema(Table):
    """A view function: its signature, its arguments, and the word of its reply that counts.

    `arguments`: constants and `$index`; left out, a function of one parameter takes the index. `word` is a position
    from 0; left out, the reply must be one word. `equals` and `not_equals` hold 32-byte words and make the view a flag:
    it is set where the word is one of `equals`, or none of `not_equals`. `address` names a contract other than the one
    that emits the events.
    """

    view: Line
    arguments: list[Constant] | None = None
    word: Word | None = None
    equals: WordChoices | None = None
    not_equals: WordChoices | None = None
    address: Address | None = None

    @model_validator(mode="after")
    def _callable(self) -> "ViewSchema":
        if self.equals is not None and self.not_equals is not None:
            raise ValueError("give equals or not_equals, not both")
        kinds = [parameter.type for parameter in self.signature.inputs]
        if self.arguments is None and len(kinds) > 1:
            raise ValueError(f'{self.view[:60]} has {len(kinds)} parameters: give arguments, such as [0, "$index"]')
        if len(kinds) != len(self.values) or len(kinds) > _ARGUMENTS_LIMIT:
            raise ValueError(f"arguments: {len(self.values)} values for {len(kinds)} parameters")
        for kind, value in zip(kinds, self.values, strict=True):
            if not _STATIC.fullmatch(kind):
                raise ValueError(f"arguments: {kind[:60]} is longer than one word, and such a view cannot be called")
            if value == INDEX and not _INDEX_TYPES.fullmatch(kind):
                raise ValueError(f"arguments: $index is a whole number or bytes32, and cannot stand for {kind[:60]}")
            if value != INDEX:
                _argument(value, kind)
        return self

    @property
    def signature(self) -> Signature:
        """The signature of the function. Raises ValueError for an unreadable one."""
        try:
            return parse_signature(self.view)
        except FixConfiguration as error:
            raise ValueError(str(error)) from None

    @property
    def values(self) -> list[Constant]:
        """The arguments, one for each parameter."""
        if self.arguments is not None:
            return self.arguments
        return [INDEX] * len(self.signature.inputs)

    @property
    def contract(self) -> bytes | None:
        """The contract of the view, 20 bytes; None: the contract of the table that holds the view."""
        return address_bytes(self.address)

    @property
    def argument_words(self) -> tuple[bytes | None, ...]:
        """The arguments as words of 32 bytes, None where the index stands."""
        kinds = [parameter.type for parameter in self.signature.inputs]
        return tuple(
            None if value == INDEX else _argument(value, kind) for value, kind in zip(self.values, kinds, strict=True)
        )

    @property
    def is_flag(self) -> bool:
        """True where the word is compared with constants, so that it is no hash."""
        return self.equals is not None or self.not_equals is not None


def _argument(value: Constant, kind: str) -> bytes:
    try:
        return Codec(kind).encode([constant_value(value, kind)])
    except FixConfiguration as error:
        raise ValueError(f"arguments: {error}") from None


def _text_or_table(pattern: re.Pattern[str], example: str) -> BeforeValidator:
    def table(raw: Any) -> Any:
        if isinstance(raw, str):
            if len(raw) > _LINE_LIMIT_CHARS or not pattern.fullmatch(raw):
                raise ValueError(f"must be {example}; for more, write a table {{view, arguments, word, equals}}")
            return {"view": raw}
        if not isinstance(raw, dict):
            raise ValueError(f"must be {example}, or a table {{view, arguments, word, equals}}")
        return raw

    return BeforeValidator(table)


def _by_index(view: ViewSchema) -> ViewSchema:
    if INDEX not in view.values:
        raise ValueError('arguments: no parameter takes the index; write "$index" where it stands')
    return view


def _plain(view: ViewSchema) -> ViewSchema:
    if INDEX in view.values:
        raise ValueError("arguments: this view is called once for all tasks and cannot take $index; write constants")
    if view.is_flag:
        raise ValueError("this view gives a value and no flag; leave equals and not_equals out")
    return view


PlainView = Annotated[
    ViewSchema, AfterValidator(_plain), _text_or_table(_PLAIN, "a function without arguments, as count()")
]
IndexedView = Annotated[
    ViewSchema, AfterValidator(_by_index), _text_or_table(_BY_INDEX, "a function of the index, such as hashes(uint32)")
]
