"""The span of blocks in a request: shorter after a refusal and after many logs, longer again after enough pages."""

import pytest

from watcher.chain.span import Span
from watcher.errors import NarrowRange

ENOUGH = 16


def test_refused_span_is_halved_and_grows_after_enough_pages() -> None:
    span = Span(100)
    span.narrow(NarrowRange("too wide"))
    assert span.blocks == 50
    for _ in range(ENOUGH - 1):
        span.widen()
    assert span.blocks == 50
    span.widen()
    assert span.blocks == 100


@pytest.mark.parametrize(("blocks", "expected"), [(100, 50), (6, 3), (1, 1)])
def test_page_of_many_logs_leaves_half_of_its_blocks(blocks: int, expected: int) -> None:
    span = Span(100)
    span.follow(blocks, 501)
    assert span.blocks == expected


def test_span_grows_to_its_limit_after_pages_of_few_logs() -> None:
    span = Span(4)
    span.follow(4, 10_000)
    for _ in range(ENOUGH * 3):
        span.follow(1, 500)
    assert span.blocks == 4
