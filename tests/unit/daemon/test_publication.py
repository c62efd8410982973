"""Who gets which root, when some of the receivers fail."""

from collections.abc import Sequence

from watcher.daemon.publication import Publication
from watcher.errors import TryLater
from watcher.health.metrics import Metrics
from watcher.ledger.audit.roots import Root

ROOTS = [Root(f"day {number}", number, number, bytes(32), bytes(32)) for number in range(1, 251)]


class Kept:
    """A receiver that keeps what it took, and fails while `broken`, after `before_failure` calls."""

    def __init__(self, name: str, *, keeps_all: bool = False, broken: bool = False) -> None:
        self.name = name
        self.keeps_all = keeps_all
        self.broken = broken
        self.before_failure = 0
        self.taken: list[int] = []
        self.calls = 0

    async def take(self, roots: Sequence[Root]) -> None:
        """Take roots, or raise TryLater."""
        self.calls += 1
        if self.broken and self.calls > self.before_failure:
            raise TryLater("no")
        self.taken += [root.last_seq for root in roots]


async def test_failing_receiver_gets_all_later_and_the_others_nothing_twice() -> None:
    well, broken = Kept("well"), Kept("broken", broken=True)
    publication = Publication([broken, well])
    assert not await publication.give([], ROOTS[:1])
    assert not await publication.give([], ROOTS[:2])
    assert (broken.taken, well.taken) == ([], [1, 2])
    broken.broken = False
    assert await publication.give([], ROOTS[:3])
    assert await publication.give(ROOTS[:3], [])
    assert (broken.taken, well.taken) == ([1, 2, 3], [1, 2, 3])


async def test_roots_of_former_runs_go_only_to_who_keeps_all() -> None:
    file, webhook = Kept("file", keeps_all=True), Kept("webhook")
    assert await Publication([file, webhook]).give(ROOTS[:2], ROOTS[2:3])
    assert (file.taken, webhook.taken) == ([1, 2, 3], [3])


async def test_many_roots_go_in_parts_and_go_on_where_they_failed() -> None:
    receiver = Kept("slow", broken=True)
    receiver.before_failure = 2
    publication = Publication([receiver])
    assert not await publication.give([], ROOTS)
    assert len(receiver.taken) == 200
    receiver.broken = False
    assert await publication.give([], ROOTS)
    assert (receiver.taken, receiver.calls) == ([root.last_seq for root in ROOTS], 4)


async def test_receiver_that_fails_twice_in_a_row_is_named_until_it_takes() -> None:
    broken, metrics = Kept("webhook", broken=True), Metrics().roots
    publication = Publication([Kept("well"), broken], metrics)
    messages = []
    for _ in range(3):
        await publication.give([], ROOTS[:1])
        messages.append(metrics.undelivered)
    broken.broken = False
    await publication.give([], ROOTS[:1])
    assert (messages, metrics.undelivered) == (["", "webhook: no", "webhook: no"], "")
