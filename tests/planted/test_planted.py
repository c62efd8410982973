"""Bugs planted into a copy of the daemon are caught; `make planted` shows it for all of them."""

import pytest

from tests.planted.hunt import ROOT, hunt
from tests.planted.mutants import MUTANTS, Mutant

QUICK = [mutant for mutant in MUTANTS if mutant.quick]
BUDGET_S = 15.0


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_fits_the_tree_and_is_a_program(mutant: Mutant) -> None:
    """Bring the mutant up to date when the code it spoils has changed."""
    for file, old, new in mutant.edits:
        text = (ROOT / "watcher" / file).read_text()
        assert text.count(old) == 1, f"{file} holds this {text.count(old)} times: {old}"
        compile(text.replace(old, new), file, "exec")


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 15
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len(QUICK) >= 5


@pytest.mark.long  # `make planted` hunts for all of them
@pytest.mark.parametrize("mutant", QUICK, ids=lambda mutant: mutant.name)
def test_the_simulation_catches_it(mutant: Mutant) -> None:
    caught = hunt(mutant, budget_s=BUDGET_S, suites=("simulation",))
    assert caught.suite == "simulation", mutant.why
    assert caught.reason.startswith("seed "), f"it did not even run: {caught.reason}"


@pytest.mark.long
def test_nothing_is_caught_where_nothing_is_planted() -> None:
    caught = hunt(None, budget_s=3.0, suites=("simulation",))
    assert caught.suite is None, caught.reason
