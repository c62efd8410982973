"""The event somebody meant: one of those seen, if its signature differs a little from the one that was written. Pure.

A topic is a hash and tells nothing of the signature it was made of. But slips are small, a uint32 that is a uint256, a
member too few, so that all of them can be tried. What is found is certain: no other signature has that hash.
"""

import re
from collections.abc import Collection, Iterator
from itertools import combinations, islice

from watcher.chain.convention.abi import topic
from watcher.chain.convention.signature import Signature

# About a third of a second, at the most.
_TRIES = 40_000
_COMMON = ("uint256", "uint32", "address", "bytes", "bytes32", "string", "uint64", "uint8", "uint128", "bool")
_TYPES = (*_COMMON, "uint16", "uint96", "int256", "uint40", "uint48", "uint160", "bytes4", "bytes8", "uint8[]")
_TOKEN = re.compile(r"[(),]|[^(),]+")

Tokens = tuple[str, ...]


def closest_signature(written: Signature, seen: Collection[bytes]) -> str | None:
    """The signature of an event among the topics seen, if it is the written one but for a slip; None if none is."""
    tokens = tuple(_TOKEN.findall(written.tuple_type))
    wanted = frozenset(seen)
    for one in islice(_slips(tokens), _TRIES) if wanted else ():
        signature = written.name + "".join(one)
        if topic(signature) in wanted:
            return signature
    return None


def _slips(tokens: Tokens) -> Iterator[Tokens]:
    values = [at for at, one in enumerate(tokens) if one not in ("(", ")", ",") and not one.startswith("[")]
    yield from _others(tokens, values, _TYPES)
    yield from _brackets(tokens, values)
    yield from _fewer(tokens)
    yield from _more(tokens, values)
    for one, two in combinations(values, 2):
        yield _with(_with(tokens, one, tokens[two]), two, tokens[one])
    for at in values:  # two slips at once
        for first in _others(tokens, [at], _COMMON):
            yield from _others(first, [other for other in values if other > at], _COMMON)


def _others(tokens: Tokens, places: Collection[int], types: Collection[str]) -> Iterator[Tokens]:
    """Another type at one of the places."""
    for at in places:
        for kind in types:
            if kind != tokens[at]:
                yield _with(tokens, at, kind)


def _brackets(tokens: Tokens, values: Collection[int]) -> Iterator[Tokens]:
    """A struct's members written out as the event's own, and the other way round: its last values as a struct."""
    flat = [one for one in tokens if one not in ("(", ")")]
    yield ("(", *flat, ")")
    if len(flat) == len(tokens) - 2:
        for at in values:
            yield (*tokens[:at], "(", *tokens[at:-1], ")", ")")


def _fewer(tokens: Tokens) -> Iterator[Tokens]:
    """One value left out."""
    for at in range(1, len(tokens) - 1):
        if tokens[at] == "," and tokens[at + 1] not in ("(", ")"):
            yield tokens[:at] + tokens[at + 2 :]
        if tokens[at] == "," and tokens[at - 1] not in ("(", ")"):
            yield tokens[: at - 1] + tokens[at + 1 :]


def _more(tokens: Tokens, values: Collection[int]) -> Iterator[Tokens]:
    """One value more."""
    for at in values:
        for kind in _TYPES:
            yield (*tokens[:at], kind, ",", *tokens[at:])
            yield (*tokens[: at + 1], ",", kind, *tokens[at + 1 :])


def _with(tokens: Tokens, at: int, kind: str) -> Tokens:
    return (*tokens[:at], kind, *tokens[at + 1 :])
