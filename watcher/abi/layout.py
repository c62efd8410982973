"""The values of a message or an answer: how they lie in its bytes, and in which form hooks get and return them.

Standard library only, because the workers of hooks import it. Invariant: for any bytes and any value each function here
returns, or raises Misfit.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from watcher.abi.decode import decode
from watcher.abi.encode import encode
from watcher.abi.grammar import BadType, parse_values
from watcher.abi.json_form import from_json, to_json
from watcher.abi.types import WORD_BYTES, AbiType, Misfit, Tuple, is_dynamic

__all__ = ["BadType", "Layout", "Misfit", "layout"]


@dataclass(frozen=True)
class Layout:
    """The values in the bytes of a message or an answer.

    Attributes:
        name: "message" or "response": the root of the path in an error.
        arguments: the types that `abi.encode` takes.
        is_single: the value is the only argument itself, not a tuple of one.
    """

    name: str
    arguments: Tuple
    is_single: bool

    def __str__(self) -> str:
        if not self.is_single:
            return str(self.arguments)
        kind = self.type
        return f"tuple{kind}" if isinstance(kind, Tuple) else str(kind)

    @property
    def type(self) -> AbiType:
        """Return the type of the value."""
        return self.arguments.members[0].type if self.is_single else self.arguments

    def decode(self, data: bytes) -> Any:
        """Return the value. Raises Misfit."""
        try:
            values = decode(self.arguments, data)
        except Misfit as misfit:
            if self.is_single and misfit.path:
                misfit.path.pop()  # The tuple is none of the author's.
            raise
        return values[0] if self.is_single else values

    def encode(self, value: Any) -> bytes:
        """Return the bytes of a Python value, in canonical form.

        The value of a tuple with one member may stand without the tuple.

        Raises:
            Misfit: the value is not of the type, or fits with the tuple and without.
        """
        if self.is_single:
            return _alone(self.type, value)
        if len(self.arguments.members) > 1:
            return encode(self.arguments, value)
        return _one_of(self, self._wrapped(value), self._bare(value))

    def encode_json(self, value: Any) -> bytes:
        """Return the bytes of a value in the JSON form. Raises Misfit, as `encode` does."""
        if self.is_single or len(self.arguments.members) > 1:
            return self.encode(from_json(self.type, value))
        return _one_of(self, self._wrapped(value, is_json=True), self._bare(value, is_json=True))

    def to_json(self, value: Any) -> Any:
        """Return the JSON form of a decoded value."""
        return to_json(self.type, value)

    def is_canonical(self, data: bytes) -> bool:
        """Return True if the data are what `abi.encode` makes of their values. Raises Misfit."""
        value = self.decode(data)
        return (_alone(self.type, value) if self.is_single else encode(self.arguments, value)) == data

    def _wrapped(self, value: Any, *, is_json: bool = False) -> bytes | Misfit:
        """Return the bytes of a value that is the tuple of one member."""
        try:
            return encode(self.arguments, from_json(self.arguments, value) if is_json else value)
        except Misfit as misfit:
            return misfit

    def _bare(self, value: Any, *, is_json: bool = False) -> bytes | Misfit:
        """Return the bytes of a value that is the only member itself."""
        member = self.arguments.members[0]
        try:
            return _alone(member.type, from_json(member.type, value) if is_json else value)
        except Misfit as misfit:
            return misfit.within(f".{member.name}") if member.name else misfit


def _alone(kind: AbiType, value: Any) -> bytes:
    """Return abi.encode of one value."""
    body = encode(kind, value)
    return WORD_BYTES.to_bytes(WORD_BYTES) + body if is_dynamic(kind) else body


def _one_of(values: Layout, wrapped: bytes | Misfit, bare: bytes | Misfit) -> bytes:
    if isinstance(wrapped, Misfit) and isinstance(bare, Misfit):
        # The deeper error is that of the form that the author meant.
        raise max(bare, wrapped, key=lambda misfit: len(misfit.path))
    if isinstance(wrapped, Misfit):
        assert isinstance(bare, bytes)
        return bare
    if isinstance(bare, bytes) and bare != wrapped:
        raise Misfit(f"fits {values} with the tuple around it and without; return it in a form that fits once")
    return wrapped


@lru_cache(maxsize=16)
def layout(name: str, text: str) -> Layout | None:
    """Return the layout of a setting; None for "", which stands for plain bytes.

    Args:
        name: "message" or "response".
        text: the types, as `watcher.abi.grammar` reads them.

    Raises:
        BadType: the text is no type.
    """
    if not text.strip():
        return None
    arguments, is_single = parse_values(text, name)
    return Layout(name, arguments, is_single)
