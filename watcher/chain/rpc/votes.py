"""The replies of several endpoints to the same calls, compared item by item. Pure.

Invariant: an item is believed when `quorum` endpoints reply alike; an item that is not believed delays no other item.
The calls are eth_call on one block, pinned by its hash (EIP-1898), so that honest endpoints reply alike.
"""

from collections.abc import Sequence

from watcher.chain.rpc.replies import Reverted, Unread
from watcher.errors import RetryElsewhere


class Votes:
    """The replies to `count` calls, one vote per item and endpoint. `voters` counts the endpoints that replied.

    An item goes by its place in the calls, from 0.
    """

    def __init__(self, count: int, quorum: int) -> None:
        self._count = count
        self._quorum = quorum
        self._readings: dict[int, list[bytes | Reverted]] = {}
        self._believed: dict[int, bytes | Reverted] = {}
        self._reasons: dict[int, Unread] = {}  # the first reason why an endpoint could not read the item
        self.voters = 0

    @property
    def open(self) -> list[int]:
        """The places of the items that are not believed so far."""
        if len(self._believed) == self._count:
            return []
        return [place for place in range(self._count) if place not in self._believed]

    def add(self, places: Sequence[int], answers: Sequence[bytes | Reverted | Unread]) -> None:
        """Add the replies of one endpoint to the items at `places`, in their order. Call it once for each endpoint."""
        self.voters += 1
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, Unread):
                self._reasons.setdefault(place, answer)
                continue
            readings = self._readings.setdefault(place, [])
            readings.append(answer)
            if readings.count(answer) >= self._quorum:
                self._believed.setdefault(place, answer)

    def result(self, block: int) -> list[bytes | Reverted | Unread]:
        """Return each item as `quorum` endpoints reply, Unread if they do not. `block`: the height of the reading.

        Raises:
            RetryElsewhere: fewer than `quorum` endpoints have replied.
        """
        if self.voters < self._quorum and self._count:
            raise RetryElsewhere(f"only {self.voters} of the {self._quorum} endpoints chain.quorum asks for can answer")
        return [self._item(place, block) for place in range(self._count)]

    def _item(self, place: int, block: int) -> bytes | Reverted | Unread:
        believed = self._believed.get(place)
        if believed is not None:
            return believed
        if len(self._readings.get(place, ())) > 1:
            return Unread(f"endpoints of chain.rpc_urls disagree about the contract at block {block}")
        few = f"fewer than {self._quorum} endpoints of chain.rpc_urls can read it at block {block}"
        return self._reasons.get(place, Unread(few))
