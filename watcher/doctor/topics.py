"""Names for the events a task manager is likely to emit, by their first topic. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

from watcher.chain.convention.abi import topic
from watcher.chain.convention.convention import convention
from watcher.chain.convention.schema import PRESETS

_SHOWN = 5
_COMMON = (
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


@cache
def presets_by_topic() -> Mapping[bytes, tuple[str, ...]]:
    """Which conventions create tasks with this event."""
    found: dict[bytes, tuple[str, ...]] = {}
    for name in PRESETS:
        created = convention(name).created_topic
        found[created] = (*found.get(created, ()), name)
    return found


@cache
def _names() -> Mapping[bytes, str]:
    names = {topic(one): one.partition("(")[0] for one in _COMMON}
    for name in PRESETS:
        one = convention(name)
        for event in (one.created, one.responded):
            if event is not None:
                names.setdefault(event.topic, f"{event.signature.name} of {name}")
    return names


def told(topics: Iterable[bytes]) -> str:
    """The commonest topics, with how often each was seen, five at most; "" for none."""
    seen = Counter(topics)
    parts = []
    for one, times in seen.most_common(_SHOWN):
        name = _names().get(one)
        parts.append(f"{f'{name} ' if name else ''}0x{one.hex()[:8]}… ×{times}")
    if len(seen) > _SHOWN:
        parts.append(f"{len(seen) - _SHOWN} more kinds")
    return ", ".join(parts)
