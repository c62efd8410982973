"""`make planted`: plant every bug, print who caught it. Fails when one went unnoticed."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.planted.hunt import Catch, hunt
from tests.planted.mutants import MUTANTS


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    asked.add_argument("names", nargs="*", help="only these")
    asked.add_argument("--workers", type=int, default=2)
    asked.add_argument("--budget", type=float, default=40.0, help="seconds of processor time for each simulation")
    given = asked.parse_args()
    chosen = [one for one in MUTANTS if not given.names or one.name in given.names]
    began_s = time.monotonic()
    for suite in sorted({suite for one in chosen for suite in one.suites}):
        unplanted = hunt(None, suites=(suite,))
        if unplanted.suite is not None:
            print(f"the suite {suite} fails although nothing is planted: {unplanted.words}")
            return 2
    with ThreadPoolExecutor(given.workers) as pool:
        caught = list(pool.map(lambda one: _told(hunt(one, budget_s=given.budget)), chosen))
    missed = [one.mutant.name for one in caught if one.suite is None]
    print(
        f"{len(caught) - len(missed)} of {len(caught)} planted bugs were caught in {time.monotonic() - began_s:.0f} s"
    )
    for name in missed:
        print(f"  NOT CAUGHT: {name}")
    return 1 if missed else 0


def _told(catch: Catch) -> Catch:
    print(f"{catch.mutant.name:34} {catch.suite or 'NOBODY':12} {catch.took_s:5.0f} s  {catch.words[:110]}", flush=True)
    return catch


if __name__ == "__main__":
    sys.exit(main())
