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
    options = asked.parse_args()
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    began_s = time.monotonic()
    for suite in sorted({suite for mutant in chosen for suite in mutant.suites}):
        unplanted = hunt(None, suites=(suite,))
        if unplanted.suite is not None:
            print(f"the suite {suite} fails although nothing is planted: {unplanted.reason}")
            return 2
    with ThreadPoolExecutor(options.workers) as pool:
        caught = list(pool.map(lambda mutant: _print(hunt(mutant, budget_s=options.budget)), chosen))
    missed = [catch.mutant.name for catch in caught if catch.suite is None]
    print(
        f"{len(caught) - len(missed)} of {len(caught)} planted bugs were caught in {time.monotonic() - began_s:.0f} s"
    )
    for name in missed:
        print(f"  NOT CAUGHT: {name}")
    return 1 if missed else 0


def _print(catch: Catch) -> Catch:
    print(
        f"{catch.mutant.name:34} {catch.suite or 'NOBODY':12} {catch.took_s:5.0f} s  {catch.reason[:110]}", flush=True
    )
    return catch


if __name__ == "__main__":
    sys.exit(main())
