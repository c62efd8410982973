"""A small torture run: kills, reorgs and faults for half a minute, then the oracle finds nothing."""

import random
from pathlib import Path

import pytest

from tests.torture.oracle import incomplete, violations_of
from tests.torture.plan import make_plan
from tests.torture.run import torture
from tests.torture.table import particulars, table


@pytest.mark.timeout(300)
async def test_a_small_run_breaks_no_promise_and_tries_all_it_set_out_to(tmp_path: Path) -> None:
    plan = make_plan(tasks=150, kills=5, reorgs=5, seed=random.SystemRandom().randrange(1, 2**32), minutes=2)
    evidence = await torture(tmp_path, plan, print)
    violations, gaps = violations_of(evidence), incomplete(evidence)
    print(table(evidence, violations, gaps, 0.0))
    assert not particulars(violations, gaps)
