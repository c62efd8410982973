"""What the answers of several nodes prove: the rule itself, case by case and for any answers."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.rig import header as block
from watcher.chain.rpc import evidence
from watcher.chain.rpc.evidence import NodeView
from watcher.task import Header

NOW_S = 1_700_000_000


def node_view(
    place: int, head: int, fork: int = 0, since: int = 0, *, leads: bool = True, low: int | None = None
) -> NodeView:
    """A node with every block from `low` to its head; from height `since` on they are of `fork`."""
    numbers = range(head - 8 if low is None else low, head + 1)
    blocks: Mapping[int, Header] = {at: block(at, fork if at >= since else 0) for at in numbers}
    return NodeView(place, blocks[head], blocks, leads)


def head_of(nodes: Sequence[NodeView], quorum: int, anchor: Header | None = None, **more: bool) -> Header | None:
    return evidence.proven_head(evidence.candidates(nodes, quorum, anchor), len(nodes), **more)


@pytest.mark.parametrize(
    ("heads", "quorum", "expected"),
    [
        ([100], 1, 100),
        ([100, 103], 1, 103),
        ([100, 103], 2, 100),
        ([103, 100, 101], 2, 101),
        ([103, 100, 101], 3, 100),
        ([103, 100, 101, 100], 3, 100),
    ],
)
def test_head_is_the_quorumth_highest_when_nodes_agree(heads: list[int], quorum: int, expected: int) -> None:
    nodes = [node_view(place, head, low=90) for place, head in enumerate(heads)]
    assert head_of(nodes, quorum) == block(expected)


def test_no_head_is_proven_when_too_few_nodes_share_a_block() -> None:
    assert head_of([node_view(0, 100), node_view(1, 100, fork=1, since=50)], 2) is None
    assert head_of([], 1) is None


def test_a_lone_fork_ahead_is_left_when_others_agree() -> None:
    ahead, others = node_view(0, 101, fork=1, since=100), [node_view(1, 100), node_view(2, 100)]
    for quorum in (1, 2):
        assert head_of([ahead, *others], quorum, block(99)) == block(100)


def test_the_side_of_the_cursor_is_followed_when_two_nodes_disagree() -> None:
    for mine, theirs in ((0, 1), (1, 0)):
        nodes = [node_view(mine, 100), node_view(theirs, 101, fork=1, since=99)]
        assert head_of(nodes, 1, block(100)) == block(100)
        assert head_of(nodes, 1, block(101, 1)) == block(101, 1)
        assert head_of(nodes, 1, block(100), keep_side=False) == block(101, 1), "the other one stands still"


def test_the_first_node_is_followed_when_nothing_tells_two_apart() -> None:
    assert head_of([node_view(0, 100), node_view(1, 101, fork=1, since=100)], 1, block(99)) == block(100)
    assert head_of([node_view(0, 101, fork=1, since=100), node_view(1, 100)], 1, block(99)) == block(101, 1)


def test_most_nodes_outweigh_the_cursor_when_they_contradict_it() -> None:
    nodes = [node_view(0, 101, fork=1, since=100), node_view(1, 100), node_view(2, 100)]
    assert head_of(nodes, 1, block(100, 1)) == block(100)


def test_a_lone_block_does_not_count_when_its_node_may_not_lead() -> None:
    nodes = [node_view(0, 101, leads=False), node_view(1, 100)]
    assert head_of(nodes, 1) == block(100)
    assert head_of(nodes[:1], 1) == block(101), "nothing else is left"


def test_disagreement_names_the_lowest_height_that_differs() -> None:
    assert evidence.disagreement([node_view(0, 100), node_view(1, 103)]) is None
    height = evidence.disagreement([node_view(0, 100), node_view(1, 103, fork=1, since=98), node_view(2, 100)])
    assert height is not None
    assert (height[0].place, height[1].place, height[2]) == (0, 1, 98)


def at(number: int, timestamp_s: int) -> Header:
    return Header(number, b"\x01" * 32, b"\x02" * 32, timestamp_s)


@pytest.mark.parametrize(
    ("head", "since", "expected"),
    [
        (at(10**9, NOW_S), None, True),
        (at(2**62 + 1, NOW_S), None, False),
        (at(10**9, NOW_S), at(100, NOW_S), False),
        (at(5_000_100, NOW_S + 12), at(100, NOW_S), False),
        (at(10**9, NOW_S + 10**6), at(100, NOW_S), False),  # the time that so many blocks take has not passed
        (at(101, NOW_S + 10**6), at(100, NOW_S), False),
        (at(101, NOW_S + 10**6 + 12), at(100, NOW_S + 10**6), True),  # this machine's clock is wrong
        (at(9_000, NOW_S), at(100, NOW_S), True),  # a test chain mines as many as it is asked for
        (at(1_000_100, NOW_S), at(100, NOW_S - 86_400), True),  # after a day away
        (at(10**9, 0), at(100, NOW_S), True),  # a node that tells no time
        (at(5, NOW_S), at(100, NOW_S), True),
    ],
)
def test_a_block_is_plausible_when_a_chain_can_have_reached_it(
    head: Header, since: Header | None, expected: bool
) -> None:
    assert evidence.plausible(head, since, NOW_S) is expected


@pytest.mark.parametrize(
    ("finals", "nodes", "quorum", "confirmations", "expected"),
    [
        ([36], 1, 1, 0, 36),
        ([100], 1, 1, 2, 100),  # the only node there is: an instantly final chain
        ([100, 36], 2, 1, 0, 36),  # one calls its head final
        ([100, 36], 2, 2, 0, 36),
        ([100, 36, 35], 3, 2, 0, 36),
        ([100, 36, 0], 3, 2, 0, 36),  # one that hangs holds nothing back
        ([100, 100, 36], 3, 2, 2, 98),
        ([100, 100, 100], 3, 2, 2, 100),
        ([100], 3, 1, 2, 98),  # the others are away
        ([100], 3, 2, 0, None),
        ([], 1, 1, 0, None),
        ([10**9, 36], 2, 2, 0, 36),
        ([1], 3, 1, 200, None),
    ],
)
def test_finality_is_the_quorumth_lowest_when_nodes_differ(
    finals: list[int], nodes: int, quorum: int, confirmations: int, expected: int | None
) -> None:
    assert evidence.proven_final(finals, nodes, 100, quorum, confirmations) == expected


_NODES = st.lists(st.tuples(st.integers(90, 110), st.integers(0, 2), st.integers(85, 110)), min_size=1, max_size=5)


@settings(max_examples=200)
@given(_NODES, st.integers(1, 5), st.integers(85, 110))
def test_any_head_is_the_highest_that_a_quorum_shows(
    drawn: list[tuple[int, int, int]], quorum: int, anchor: int
) -> None:
    nodes = [node_view(place, head, fork, since, low=80) for place, (head, fork, since) in enumerate(drawn)]
    head = head_of(nodes, quorum, block(anchor))
    if head is None:
        assert all(
            sum(each.holds(block) for each in nodes) < quorum for node in nodes for block in node.blocks.values()
        )
        return
    holders = [node for node in nodes if node.holds(head)]
    assert len(holders) >= quorum
    higher = [block for node in holders for block in node.blocks.values() if block.number > head.number]
    assert all(sum(each.holds(block) for each in nodes) < quorum for block in higher)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 150), max_size=5), st.integers(0, 2), st.integers(1, 4), st.integers(0, 5))
def test_any_final_block_is_called_final_by_a_quorum(finals: list[int], away: int, quorum: int, depth: int) -> None:
    final = evidence.proven_final(finals, len(finals) + away, 100, quorum, depth)
    if final is None:
        return
    agreeing = sum(number >= final for number in finals)
    assert final <= 100 and agreeing >= quorum
    assert agreeing == len(finals) + away or final <= 100 - depth
