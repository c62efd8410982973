"""`python -m tests.torture`: tries to break the watcher, and tells what it tried and what it found.

Exit code 0: nothing found and everything tried. 1: a promise was broken. 3: something was never tried, so that the
verdict is void.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.oracle import incomplete, violations_of
from tests.torture.plan import make_plan
from tests.torture.run import torture
from tests.torture.table import particulars, table

EXIT_BROKEN, EXIT_INCOMPLETE = 1, 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000, help="tasks on the chain at the end")
    parser.add_argument("--kills", type=int, default=40, help="SIGKILLs of the daemon, each followed by a start")
    parser.add_argument("--reorgs", type=int, default=20, help="reorgs, of depth 1 to 20 and of five kinds")
    parser.add_argument("--seed", type=int, default=0, help="makes the same choices again; 0 draws one")
    parser.add_argument("--minutes", type=float, default=60, help="the havoc is cut short after that")
    parser.add_argument("--quorum", type=int, default=2, choices=(1, 2), help="chain.quorum of the daemon")
    parser.add_argument("--without", nargs="*", default=[], metavar="FAULT", help="leave out, as rpc.lag or api.reset")
    parser.add_argument("--folder", type=Path, help="keeps the ledger, the log and the journals there")
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(1, 2**32)
    plan = make_plan(
        options.tasks, options.kills, options.reorgs, seed, options.minutes, options.without, options.quorum
    )
    _say(f"seed {seed}; about {plan.pace_s / 60:.1f} minutes of havoc, then the quiet")
    with tempfile.TemporaryDirectory(prefix="torture-") as fallback:
        folder = options.folder or Path(fallback)
        folder.mkdir(parents=True, exist_ok=True)
        began_s = time.monotonic()
        evidence = asyncio.run(torture(folder, plan, _say))
        violations, gaps = violations_of(evidence), incomplete(evidence)
        broken = any(violations.values())
        print(table(evidence, violations, gaps, time.monotonic() - began_s))
        print(particulars(violations, gaps))
        if broken and options.folder is None:
            print("run it again with --folder to keep the evidence")
    return EXIT_BROKEN if broken else EXIT_INCOMPLETE if gaps else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
