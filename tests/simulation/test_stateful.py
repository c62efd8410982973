"""The same world under hypothesis: it chooses what happens next, and shrinks what goes wrong to its shortest story."""

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.simulation.chain import FATES
from tests.simulation.rules import FAULTS, Rules
from tests.simulation.scenario import settle
from tests.simulation.world import World

RUNS = int(os.environ.get("WATCHER_TEST_MACHINES", "12"))


class Machine(RuleBasedStateMachine):
    """One rule per thing that may happen to the daemon or its surroundings."""

    world: World | None = None

    @initialize(seed=st.integers(0, 2**32 - 1), faults=st.sets(st.sampled_from(sorted(FAULTS)), max_size=len(FAULTS)))
    def begin(self, seed: int, faults: set[str]) -> None:
        world = World(seed)
        world.close()
        self.world = World(seed, Rules.draw(world.random("rules"), sorted(faults)))
        self._do("start")
        self._do("create", 2)
        self._do("mine", 1)

    def _do(self, action: str, *args: Any) -> None:
        world = self.world
        assert world is not None
        world.act(lambda: getattr(world, action)(*args))

    @rule(count=st.integers(1, 3))
    def tasks_are_asked(self, count: int) -> None:
        self._do("create", count)

    @rule(count=st.integers(1, 5))
    def blocks_are_mined(self, count: int) -> None:
        self._do("mine", count)

    @rule(seconds=st.sampled_from((0.01, 0.05, 0.3, 1.0, 5.0, 30.0)))
    def time_passes(self, seconds: float) -> None:
        self._do("wait", seconds)

    @rule(depth=st.integers(1, 8), fate=st.sampled_from(FATES))
    def the_chain_changes(self, depth: int, fate: str) -> None:
        self._do("reorg", depth, fate)

    @rule(number=st.integers(0, 2), behind=st.integers(0, 4))
    def a_node_lags(self, number: int, behind: int) -> None:
        self._do("lag", number, behind)

    @rule(number=st.integers(0, 2))
    def a_node_goes(self, number: int) -> None:
        self._do("cut", number)

    @rule()
    def nodes_come_back(self) -> None:
        self._do("follow")

    @rule()
    def somebody_else_answers(self) -> None:
        self._do("rival")

    @rule()
    def a_person_has_a_hand_in_it(self) -> None:
        self._do("person")

    @precondition(lambda self: self.world is not None and self.world.daemon is not None)
    @rule()
    def the_daemon_is_killed(self) -> None:
        self._do("crash")

    @precondition(lambda self: self.world is not None and self.world.daemon is not None)
    @rule(commits=st.integers(1, 8))
    def the_daemon_is_killed_right_after_a_commit(self, commits: int) -> None:
        self._do("light", commits)

    @precondition(lambda self: self.world is not None and self.world.daemon is None)
    @rule()
    def the_daemon_starts(self) -> None:
        self._do("start")

    def teardown(self) -> None:
        world, self.world = self.world, None
        if world is None:
            return
        try:
            world.act(lambda: settle(world))
            world.act(world.oracle.resolver)
        finally:
            world.close()


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=RUNS,
    stateful_step_count=25,
    database=None,
    print_blob=True,
    derandomize="WATCHER_TEST_MACHINES" not in os.environ,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
