"""A range that is read ahead counts for its own question only, once, and its failure decides nothing."""

from typing import Any, cast

import pytest

from tests.conformance.rig import header as block
from watcher.chain.page import Decoded
from watcher.chain.read_ahead import ReadAhead
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.rpc.replies import LogPage
from watcher.errors import NarrowRange, RetryElsewhere, StaleNode
from watcher.task import Header

HEAD = block(100)
DECODED = Decoded([], [], [], [])


class Fake:
    """Nodes that give one page or one error, and the reader of its logs."""

    def __init__(self, reply: LogPage | RetryElsewhere) -> None:
        self.reply = reply
        self.window_blocks: int | None = 30

    async def page(self, query: LogQuery, head: Header) -> LogPage:
        if isinstance(self.reply, RetryElsewhere):
            raise self.reply
        return self.reply

    async def read(self, page: LogPage, *, at_once: bool) -> Decoded:
        assert not at_once
        return DECODED


def question(after: Header, last: int = 20) -> LogQuery:
    return LogQuery(b"\x11" * 20, (b"\x22" * 32,), after.number + 1, last, after)


def of(fake: Fake) -> ReadAhead:
    return ReadAhead(cast("Any", fake), cast("Any", fake))


async def test_range_is_there_once_for_its_own_question() -> None:
    page = LogPage((), block(20), True, 0)
    ahead = of(Fake(page))
    for other in (question(block(10), 21), question(Header(10, b"\x99" * 32, b"")), question(block(11))):
        await ahead.read(question(block(10)), HEAD)
        assert ahead.take(other) is None
        assert ahead.take(question(block(10))) is None, "it is forgotten with the first question"
    await ahead.read(question(block(10)), HEAD)
    assert ahead.take(question(block(10))) == (page, DECODED)
    assert ahead.take(question(block(10))) is None


async def test_range_read_with_another_window_does_not_count() -> None:
    fake = Fake(LogPage((), block(20), True, 0))
    ahead = of(fake)
    await ahead.read(question(block(10)), HEAD)
    fake.window_blocks = 40
    assert ahead.take(question(block(10))) is None


@pytest.mark.parametrize(
    "reply",
    [
        LogPage((), block(20), False, 0),
        RetryElsewhere("no connection"),
        NarrowRange("too many results"),
        StaleNode("does not have block 20"),
    ],
)
async def test_range_that_fails_is_asked_again(reply: LogPage | RetryElsewhere) -> None:
    ahead = of(Fake(reply))
    await ahead.read(question(block(10)), HEAD)
    assert ahead.take(question(block(10))) is None
