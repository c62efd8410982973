"""A small run with replicas: the server restarts, commits are cut, daemons killed; then the oracle finds nothing."""

import random
from pathlib import Path

import pytest

from tests.conformance.postgres import NoServer
from tests.torture.oracle import incomplete, violations_of
from tests.torture.table import particulars, table

pytest.importorskip("psycopg")

from tests.chaos.evidence import changed_by_move, never_done
from tests.chaos.plan import small_chaos_plan
from tests.chaos.run import chaos


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_three_replicas_on_one_server_break_no_promise(tmp_path: Path) -> None:
    plan = small_chaos_plan(tasks=60, seed=random.SystemRandom().randrange(1, 2**32))
    try:
        evidence, moved = await chaos(tmp_path, plan, print)
    except NoServer as why:
        pytest.skip(str(why))
    violations = violations_of(evidence) | {"moved": changed_by_move(moved, evidence)}
    gaps = incomplete(evidence) + never_done(plan, evidence)
    print(table(evidence, violations, gaps, 0.0))
    assert not particulars(violations, gaps)
