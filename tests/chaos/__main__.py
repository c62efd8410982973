"""`python -m tests.chaos`: replicas on one PostgreSQL, and all that can go wrong with them, judged by the oracle.

Exit code 0: nothing found and everything tried. 1: a promise was broken. 3: something was never tried, so that the
verdict is void. 4: there is no PostgreSQL to run on.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.evidence import changed_by_move, never_done
from tests.chaos.plan import EVERY, MIXED, make_chaos_plan
from tests.chaos.run import chaos
from tests.conformance.postgres import NoServer
from tests.torture.oracle import incomplete, violations_of
from tests.torture.table import particulars, table

EXIT_BROKEN, EXIT_INCOMPLETE, EXIT_NO_SERVER = 1, 3, 4


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks on the chain at the end")
    parser.add_argument("--replicas", type=int, default=3, help="daemons on one ledger")
    parser.add_argument("--every-role", action="store_true", help="give every replica all roles, and not two or three")
    parser.add_argument("--kills", type=int, default=120, help="SIGKILLs of one of them, each followed by a start")
    parser.add_argument("--reorgs", type=int, default=100, help="reorgs, of depth 1 to 20 and of five kinds")
    parser.add_argument("--seed", type=int, default=0, help="makes the same choices again; 0 draws one")
    parser.add_argument("--minutes", type=float, default=120, help="the havoc is cut short after that")
    parser.add_argument("--quorum", type=int, default=2, choices=(1, 2), help="chain.quorum of the daemons")
    parser.add_argument("--without", nargs="*", default=[], metavar="FAULT", help="leave out, as rpc.lag or api.reset")
    parser.add_argument("--folder", type=Path, help="keeps the ledger, the logs and the journals there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # server and daemons end with the run
    seed = options.seed or random.SystemRandom().randrange(1, 2**32)
    plan = make_chaos_plan(
        options.tasks,
        options.kills,
        options.reorgs,
        seed,
        options.minutes,
        replicas=options.replicas,
        roles=EVERY if options.every_role else MIXED,
        without=options.without,
        quorum=options.quorum,
    )
    _say(f"seed {seed}; about {plan.pace_s / 60:.1f} minutes of havoc, then the quiet")
    with tempfile.TemporaryDirectory(prefix="chaos-") as fallback:
        folder = options.folder or Path(fallback)
        folder.mkdir(parents=True, exist_ok=True)
        began_s = time.monotonic()
        try:
            evidence, moved = asyncio.run(chaos(folder, plan, _say))
        except NoServer as why:
            _say(str(why))
            return EXIT_NO_SERVER
        violations = violations_of(evidence) | {"moved": changed_by_move(moved, evidence)}
        gaps = incomplete(evidence) + never_done(plan, evidence)
        print(table(evidence, violations, gaps, time.monotonic() - began_s))
        print(particulars(violations, gaps))
        if any(violations.values()) and options.folder is None:
            print("run it again with --folder to keep the evidence")
    return EXIT_BROKEN if any(violations.values()) else EXIT_INCOMPLETE if gaps else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
