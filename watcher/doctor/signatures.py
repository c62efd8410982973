"""Events by their topics: names of known ones, and the one that a wrong signature means. Pure.

A topic is the keccak256 hash of a signature and does not show it. But slips are small, a uint32 that is a uint256, a
member too few, so that all of them can be tried. A match is certain: no other signature has that hash.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from itertools import combinations, islice

from watcher.chain.convention.abi import topic
from watcher.chain.convention.convention import convention
from watcher.chain.convention.event import Event
from watcher.chain.convention.schema import PRESETS
from watcher.chain.convention.signature import Signature

_KINDS_LISTED = 5
# Events that task managers are likely to emit beside those of the presets.
_KNOWN = (
    "AggregatorUpdated(address,address)",
    "GeneratorUpdated(address,address)",
    "Initialized(uint8)",
    "Initialized(uint64)",
    "OwnershipTransferred(address,address)",
    "Paused(address)",
    "Paused(address,uint256)",
    "Unpaused(address)",
    "Unpaused(address,uint256)",
    "Upgraded(address)",
    "AdminChanged(address,address)",
    "TaskCompleted(uint32)",
    "TaskChallengedSuccessfully(uint32,address)",
    "TaskChallengedUnsuccessfully(uint32,address)",
    "TaskCreated(address,bytes32,address,uint32,uint32,address,uint96,uint256,bytes)",
    "NewTaskCreated(uint32,(string,uint32))",
    "NewTaskCreated(uint32,bytes32)",
)

# About a third of a second at most.
_TRIES = 40_000
_COMMON = ("uint256", "uint32", "address", "bytes", "bytes32", "string", "uint64", "uint8", "uint128", "bool")
_TYPES = (*_COMMON, "uint16", "uint96", "int256", "uint40", "uint48", "uint160", "bytes4", "bytes8", "uint8[]")
_TOKEN = re.compile(r"[(),]|[^(),]+")

Tokens = tuple[str, ...]


@cache
def presets_by_topic() -> Mapping[bytes, tuple[str, ...]]:
    """Return the names of the presets whose tasks are created by an event, by its topic (32 bytes)."""
    presets: dict[bytes, tuple[str, ...]] = {}
    for name in PRESETS:
        created = convention(name).created_topic
        presets[created] = (*presets.get(created, ()), name)
    return presets


@cache
def _names() -> Mapping[bytes, str]:
    names = {topic(signature): signature.partition("(")[0] for signature in _KNOWN}
    for preset in PRESETS:
        described = convention(preset)
        for event in (described.created, described.responded):
            if event is not None:
                names.setdefault(event.topic, f"{event.signature.name} of {preset}")
    return names


def describe_topics(topics: Iterable[bytes]) -> str:
    """Return the commonest topics with their names and counts, five at most; "" for none."""
    counts = Counter(topics)
    parts = []
    for event_topic, count in counts.most_common(_KINDS_LISTED):
        name = _names().get(event_topic)
        parts.append(f"{f'{name} ' if name else ''}0x{event_topic.hex()[:8]}… ×{count}")
    if len(counts) > _KINDS_LISTED:
        parts.append(f"{len(counts) - _KINDS_LISTED} more kinds")
    return ", ".join(parts)


def event_text(event: Event) -> str:
    """Return an event's signature and the beginning of its topic."""
    return f"{event.signature} (0x{event.topic.hex()[:8]}…)"


def event_name(event: Event) -> str:
    """Return an event's name and the beginning of its topic."""
    return f"{event.signature.name} 0x{event.topic.hex()[:8]}…"


def closest_signature(written: Signature, topics: Collection[bytes]) -> str | None:
    """Return the signature that has one of the topics and differs from `written` by a slip; None if there is none."""
    tokens = tuple(_TOKEN.findall(written.tuple_type))
    seen = frozenset(topics)
    for candidate in islice(_slips(tokens), _TRIES) if seen else ():
        signature = written.name + "".join(candidate)
        if topic(signature) in seen:
            return signature
    return None


def _slips(tokens: Tokens) -> Iterator[Tokens]:
    values = [at for at, token in enumerate(tokens) if token not in ("(", ")", ",") and not token.startswith("[")]
    yield from _other_types(tokens, values, _TYPES)
    yield from _brackets(tokens, values)
    yield from _one_less(tokens)
    yield from _one_more(tokens, values)
    for first, second in combinations(values, 2):
        yield _with(_with(tokens, first, tokens[second]), second, tokens[first])
    for at in values:  # two slips at once
        for changed in _other_types(tokens, [at], _COMMON):
            yield from _other_types(changed, [later for later in values if later > at], _COMMON)


def _other_types(tokens: Tokens, places: Collection[int], types: Collection[str]) -> Iterator[Tokens]:
    """Yield the tokens with another type at one of the places."""
    for at in places:
        for kind in types:
            if kind != tokens[at]:
                yield _with(tokens, at, kind)


def _brackets(tokens: Tokens, values: Collection[int]) -> Iterator[Tokens]:
    """Yield a struct's members as the event's own, and the other way round the event's last values as a struct."""
    flat = [token for token in tokens if token not in ("(", ")")]
    yield ("(", *flat, ")")
    if len(flat) == len(tokens) - 2:
        for at in values:
            yield (*tokens[:at], "(", *tokens[at:-1], ")", ")")


def _one_less(tokens: Tokens) -> Iterator[Tokens]:
    """Yield the tokens without one of the values."""
    for at in range(1, len(tokens) - 1):
        if tokens[at] == "," and tokens[at + 1] not in ("(", ")"):
            yield tokens[:at] + tokens[at + 2 :]
        if tokens[at] == "," and tokens[at - 1] not in ("(", ")"):
            yield tokens[: at - 1] + tokens[at + 1 :]


def _one_more(tokens: Tokens, values: Collection[int]) -> Iterator[Tokens]:
    """Yield the tokens with one more value."""
    for at in values:
        for kind in _TYPES:
            yield (*tokens[:at], kind, ",", *tokens[at:])
            yield (*tokens[: at + 1], ",", kind, *tokens[at + 1 :])


def _with(tokens: Tokens, at: int, kind: str) -> Tokens:
    return (*tokens[:at], kind, *tokens[at + 1 :])
