"""What several endpoints answer to the same calls, compared item by item. Pure.

Invariant: an item is believed when `quorum` endpoints answer it alike; one that is not holds up no other item.
"""

from collections.abc import Sequence

from watcher.chain.rpc.replies import Reverted, Unread
from watcher.errors import RetryElsewhere


class Votes:
    """The answers to `count` calls, one vote per item and endpoint. `endpoints` counts those that answered."""

    def __init__(self, count: int, quorum: int) -> None:
        self._count = count
        self._quorum = quorum
        self._given: list[list[bytes | Reverted]] = [[] for _ in range(count)]
        self._reasons: dict[int, Unread] = {}  # the first reason why an endpoint could not read the item
        self.endpoints = 0

    @property
    def open(self) -> list[int]:
        """The items that too few endpoints have answered alike so far."""
        return [place for place in range(self._count) if self._believed(place) is None]

    def add(self, places: Sequence[int], answers: Sequence[bytes | Reverted | Unread]) -> None:
        """Take what one endpoint answers to the items at `places`. Call it once for each endpoint."""
        self.endpoints += 1
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, Unread):
                self._reasons.setdefault(place, answer)
            else:
                self._given[place].append(answer)

    def result(self, block: int) -> list[bytes | Reverted | Unread]:
        """Return each item as `quorum` endpoints give it, Unread where they do not. `block`: what was read at.

        Raises RetryElsewhere when fewer endpoints answered.
        """
        if self.endpoints < self._quorum and self._count:
            raise RetryElsewhere(
                f"only {self.endpoints} of the {self._quorum} endpoints chain.quorum asks for can answer"
            )
        return [self._item(place, block) for place in range(self._count)]

    def _item(self, place: int, block: int) -> bytes | Reverted | Unread:
        believed = self._believed(place)
        if believed is not None:
            return believed
        if len(self._given[place]) > 1:
            return Unread(f"endpoints of chain.rpc_urls disagree about the contract at block {block}")
        few = f"fewer than {self._quorum} endpoints of chain.rpc_urls can read it at block {block}"
        return self._reasons.get(place, Unread(few))

    def _believed(self, place: int) -> bytes | Reverted | None:
        given = self._given[place]
        return next((one for one in given if given.count(one) >= self._quorum), None)
