"""The head among nodes that lag, lie about their head, or follow forks."""

from dataclasses import replace

import pytest

from tests.conformance.rig import header as block
from tests.kit.nodes import Net, made
from watcher.errors import RetryElsewhere, StaleNode
from watcher.task import Header

FAR = 10**9
MANAGER = b"\x11" * 20


def far(head: Header) -> Header:
    return replace(head, number=head.number + FAR)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(("nodes", "quorum"), [(2, 1), (3, 1), (3, 2)])
async def test_a_far_head_of_one_node_changes_nothing(nodes: int, quorum: int, place: int) -> None:
    net = Net(nodes, quorum)
    net.nodes[place].names = far
    for height in range(100, 140):
        assert (await net.poll()).number == height, "from the first poll on, and without a delay"
        net.mine()
    disagreement = net.pool.disagreement
    assert disagreement is not None and disagreement.last_s - disagreement.first_s > 10
    assert f"{net.nodes[place].name} names block" in disagreement.message
    net.nodes[place].names = lambda head: head
    assert (await net.poll(20)).number == 140
    assert net.pool.disagreement is None


async def test_far_head_shown_at_its_height_is_refused_when_another_node_replies() -> None:
    net = Net(2, 1)
    await net.read()
    liar = net.nodes[0]
    liar.height += FAR
    for _ in range(10):
        net.nodes[1].height += 1
        assert (await net.poll()).number == net.nodes[1].height


async def test_the_only_node_must_insist_when_its_head_seems_impossible() -> None:
    net = Net(1, 1)
    await net.read()
    (node,) = net.nodes
    node.names = far
    for _ in range(20):
        with pytest.raises(StaleNode, match="not there"):
            await net.poll()
    node.names = lambda head: head
    assert (await net.poll()).number == 100
    node.height += FAR
    for _ in range(3):
        with pytest.raises(StaleNode, match="impossible"):
            await net.poll(1)
    node.height -= FAR
    assert (await net.poll()).number == 100
    node.height += FAR  # the chain of a test may well do so: it says it again and again
    for _ in range(3):
        with pytest.raises(StaleNode, match="impossible"):
            await net.poll(3)
    assert (await net.poll(3)).number == 100 + FAR


@pytest.mark.parametrize("lead", [1, 5])
async def test_a_node_ahead_is_followed_at_once_when_it_agrees(lead: int) -> None:
    net = Net(2, 1)
    net.nodes[1].height += lead
    for height in range(100 + lead, 130 + lead):
        assert (await net.read()).number == height
        net.mine()
    assert net.pool.disagreement is None


async def test_a_node_that_hangs_hides_nothing() -> None:
    net = Net(2, 1)
    for _ in range(30):
        net.nodes[1].height += 1
        assert (await net.read()).number == net.nodes[1].height
    assert net.pool.disagreement is None


@pytest.mark.parametrize(("nodes", "quorum"), [(3, 2), (3, 1), (2, 1)])
@pytest.mark.parametrize("place", [0, 1])
async def test_a_node_a_block_ahead_on_its_own_fork_is_not_followed(nodes: int, quorum: int, place: int) -> None:
    net = Net(nodes, quorum)
    await net.read()
    forked = net.nodes[place]
    forked.fork, forked.since, forked.height = 1, 100, 101
    for height in range(100, 130):
        head = await net.read()
        assert (head.number, head.hash) == (height, block(height).hash)
        assert await net.pool.views([b"call"], MANAGER, head)
        net.mine()
    disagreement = net.pool.disagreement
    assert disagreement is not None and "show different blocks" in disagreement.message


async def test_a_tip_that_is_never_the_chains_costs_a_block_and_not_all() -> None:
    """A node that invents its newest block alone: each one looks right until the others have made theirs."""
    net = Net(2, 1)
    liar, honest = net.nodes
    right = 0
    for height in range(100, 160):
        honest.height, liar.height, liar.fork, liar.since = height, height + 1, height, height + 1
        head = await net.read()
        right += head.hash == block(head.number).hash
    assert right >= 56
    assert net.pool.disagreement is not None


async def test_a_lone_head_whose_state_nobody_reads_is_left() -> None:
    net = Net(2, 1)
    await net.read()
    liar, honest = net.nodes
    liar.fork, liar.since, liar.height, liar.serves = 1, 101, 101, False
    assert (await net.poll()).hash == block(101, 1).hash
    with pytest.raises(StaleNode):
        await net.pool.views([b"call"], MANAGER, made(101, 1))
    for _ in range(20):
        honest.height, liar.height = honest.height + 1, liar.height + 1
        head = await net.read()
        assert head.hash == block(head.number).hash


async def test_a_dead_fork_is_left_when_the_other_one_grows() -> None:
    net = Net(2, 1)
    dead, living = net.nodes
    dead.fork, dead.since = 1, 98
    net.pool.follow(block(100, 1))
    living.height = 102
    assert (await net.poll()).hash == block(100, 1).hash, "the side of the cursor comes first"
    living.height = 104
    head = await net.poll()
    assert head.hash == block(104).hash
    net.pool.follow(block(97))  # the watch goes back to where both are the same, and stays with the other side
    assert await net.poll() == head


async def test_a_reorg_that_all_nodes_follow_is_followed_at_once() -> None:
    net = Net(3, 2)
    await net.read()
    for node in net.nodes[:2]:
        node.fork, node.since, node.height = 1, 99, 101
    head = await net.poll()
    assert (head.number, head.hash) == (101, block(101, 1).hash), "two of three are enough"


async def test_nothing_is_the_head_when_fewer_than_the_quorum_answer() -> None:
    net = Net(3, 2)
    net.nodes[0].away = net.nodes[1].away = True
    with pytest.raises(RetryElsewhere, match="only 1 of the 2"):
        await net.poll()


async def test_two_nodes_that_must_agree_give_the_last_block_they_share() -> None:
    net = Net(2, 2)
    net.nodes[1].fork, net.nodes[1].since = 1, 99
    assert (await net.poll()).number == 98
    assert net.pool.disagreement is not None


async def test_nodes_that_agree_cost_one_question_each() -> None:
    net = Net(3, 1)
    await net.read()
    for node in net.nodes:
        node.asked = 0
    net.mine()
    await net.read()
    assert [node.asked for node in net.nodes] == [1, 1, 1]


async def test_a_mark_counts_as_gone_when_every_node_shows_less_for_a_while() -> None:
    net = Net(2, 1)
    await net.poll()
    assert net.pool.shows_less_for_s(100) == 0
    assert net.pool.shows_less_for_s(101) == 0
    await net.poll(7)
    assert net.pool.shows_less_for_s(101) == 7
    net.nodes[1].height = 101
    await net.poll(7)
    assert net.pool.shows_less_for_s(101) == 0
