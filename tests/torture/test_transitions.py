"""Every transition that a large run must meet is brought about on purpose, whatever its storm did."""

import random
from pathlib import Path

import pytest

from tests.torture.coverage import SMALL_TRANSITIONS, TRANSITIONS
from tests.torture.settle import up
from tests.torture.transitions import ARRANGEMENTS, Arranger, bring_about
from tests.torture.world import running_world

WINDOW_BLOCKS = 200


def test_each_demanded_transition_is_arranged_or_on_every_way() -> None:
    assert frozenset[object]().union(*(arrangement.transitions for arrangement in ARRANGEMENTS)) == (
        TRANSITIONS - SMALL_TRANSITIONS
    )


@pytest.mark.timeout(600)
async def test_arrangements_alone_bring_about_every_transition(tmp_path: Path) -> None:
    async with running_world(tmp_path, seed=5201, window_blocks=WINDOW_BLOCKS, quorum=2) as world:
        await up(world)
        await bring_about(world, WINDOW_BLOCKS, random.Random(5201), print)
        missing = TRANSITIONS - Arranger(world, WINDOW_BLOCKS, random.Random()).recorded()
        await world.stop_all()
    assert not missing
    assert not world.past.deaths
