"""The final block among nodes that lag, follow forks, or call their head final."""

import pytest

from tests.kit.nodes import Net, made


@pytest.mark.parametrize(
    ("finals", "quorum", "confirmations", "expected", "firm"),
    [
        ([36], 1, 0, 36, True),
        ([100], 1, 2, 100, False),
        ([100, 36], 1, 0, 36, True),
        ([100, 36, 36], 2, 0, 36, True),
        ([100, 100, 36], 2, 3, 97, True),
        ([99, 98], 2, 0, 98, True),
        ([100, 100], 2, 0, 100, False),
    ],
)
async def test_finality_is_firm_when_enough_nodes_name_a_lower_block(
    finals: list[int], quorum: int, confirmations: int, expected: int, firm: bool
) -> None:
    net = Net(len(finals), quorum)
    for node, final in zip(net.nodes, finals, strict=True):
        node.final = final
    result = await net.pool.final("finalized", await net.poll(), confirmations)
    assert result is not None
    assert (result.block, result.firm) == (made(expected), firm)


async def test_finality_is_not_firm_when_one_of_several_nodes_is_left() -> None:
    net = Net(2, 1)
    net.nodes[0].final, net.nodes[1].away = 100, True
    final = await net.pool.final("finalized", await net.poll(), 2)
    assert final is not None
    assert (final.block.number, final.firm) == (98, False)
    final = await net.pool.final(5, await net.poll(), 2)
    assert final is not None
    assert (final.block.number, final.firm) == (95, False)


@pytest.mark.parametrize(
    ("heights", "quorum", "expected", "firm"),
    [
        ([100], 1, 96, True),
        ([104, 100, 100], 1, 96, True),  # the one ahead alone would make their head final
        ([100, 104], 1, 96, True),
        ([103, 103, 100], 2, 99, True),
        ([103, 100, 100], 2, 96, True),
    ],
)
async def test_finality_by_depth_is_counted_from_the_head_of_each_node(
    heights: list[int], quorum: int, expected: int, firm: bool
) -> None:
    net = Net(len(heights), quorum)
    for node, height in zip(net.nodes, heights, strict=True):
        node.height = height
    final = await net.pool.final(4, await net.poll(), 2)
    assert final is not None
    assert (final.block, final.firm) == (made(expected), firm)


async def test_finality_by_depth_is_none_while_the_chain_is_shorter() -> None:
    net = Net(2, 1)
    assert await net.pool.final(101, await net.poll(), 0) is None


async def test_a_final_block_of_another_fork_does_not_count() -> None:
    net = Net(3, 1)
    forked = net.nodes[0]
    forked.fork, forked.since, forked.final = 1, 90, 95
    for node in net.nodes[1:]:
        node.final = 80
    final = await net.pool.final("finalized", await net.poll(), 0)
    assert final is not None and final.block == made(80)


async def test_finality_at_the_head_is_noticed_when_the_chain_moves_on_with_it() -> None:
    net = Net(1, 1)
    for _ in range(12):
        net.mine()
        net.nodes[0].final = net.nodes[0].height
        await net.pool.final("finalized", await net.poll(12), 0)
    assert net.pool.final_at_head_s == 11 * 12
    net.mine()
    await net.pool.final("finalized", await net.poll(12), 0)
    assert net.pool.final_at_head_s == 0
