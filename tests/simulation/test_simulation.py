"""Scenarios by seed: whatever chain, nodes, API, hook and crashes do, every promise holds; stories can be retold."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation.scenario import tell
from watcher.state import LEGAL, State

SCENARIOS = int(os.environ.get("WATCHER_TEST_SCENARIOS", "100"))
FIRST = int(os.environ.get("WATCHER_TEST_SEED", "1"))
PARTS = 4


_transitions: Counter[tuple[str, str]] = Counter()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_promise_holds_in_every_scenario(part: int) -> None:
    wrongs = []
    for seed in range(FIRST + part, FIRST + SCENARIOS, PARTS):
        report = tell(seed)
        _transitions.update(report.transitions)
        if report.wrong is not None:
            wrongs.append(f"python -m tests.simulation --seed {seed} --trace   # {report.wrong}")
    assert not wrongs, "\n".join(wrongs)


def test_the_scenarios_go_everywhere_a_task_usually_goes() -> None:
    """Without this, scenarios in which nothing happens would pass as well."""
    usual = {
        (None, State.SEEN), (State.SEEN, State.READY), (State.SEEN, State.EXPIRED), (State.READY, State.COMPUTED),
        (State.COMPUTED, State.SENDING), (State.SENDING, State.ACCEPTED), (State.SENDING, State.UNKNOWN),
        (State.SENDING, State.WAITING), (State.WAITING, State.SENDING), (State.UNKNOWN, State.WAITING),
        (State.UNKNOWN, State.RESPONDED), (State.ACCEPTED, State.RESPONDED), (State.ACCEPTED, State.WAITING),
        (State.RESPONDED, State.FINAL), (State.RESPONDED, State.UNKNOWN), (State.SEEN, State.ORPHANED),
        (State.RESPONDED_OTHER, State.FINAL_OTHER),
    }  # fmt: skip
    if SCENARIOS < 100:
        pytest.skip("too few scenarios to go everywhere")
    assert {(str(before or ""), str(to)) for before, to in usual} <= _transitions.keys()
    legal = {(str(before), str(to)) for before, goals in LEGAL.items() for to in goals}
    assert {move for move in _transitions if move[0]} <= legal


@pytest.mark.parametrize("seed", [1, 3, 9, 17])
def test_a_seed_tells_the_same_story_in_another_process(seed: int) -> None:
    """Hashes of strings differ between processes: nothing may depend on the order of a set."""

    def story(hash_seed: int) -> str:
        command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--trace"]
        environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False).stdout

    first, second = story(1), story(2)
    assert "every promise held" in first
    assert first.count("\n") > 20
    assert first == second
