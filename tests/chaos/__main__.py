"""`python -m tests.chaos`: replicas on one PostgreSQL, and all that can go wrong with them, judged by the oracle.

Exit code 0: nothing found and everything tried. 1: a promise was broken. 3: something was never tried, so that the
verdict is void. 4: there is no PostgreSQL to run on.
"""

import asyncio
import signal
import sys

from tests.chaos.evidence import changed_by_move, never_done
from tests.chaos.plan import EVERY, MIXED, make_chaos_plan
from tests.chaos.run import chaos
from tests.conformance.postgres import NoServer
from tests.torture.command import Finding, Sizes, folder_of, parser_of, say, seed_of, verdict
from tests.torture.oracle import incomplete, violations_of

EXIT_NO_SERVER = 4


def main() -> int:
    parser = parser_of("make chaos", __doc__, Sizes(tasks=10_000, kills=120, reorgs=100, minutes=120))
    parser.add_argument("--replicas", type=int, default=3, help="daemons on one ledger")
    parser.add_argument("--every-role", action="store_true", help="give every replica all roles, and not two or three")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # server and daemons end with the run
    seed = seed_of(options)
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

    with folder_of(options) as folder:

        def examine() -> Finding:
            evidence, moved = asyncio.run(chaos(folder, plan, say))
            violations = violations_of(evidence) | {"moved": changed_by_move(moved, evidence)}
            return Finding(evidence, violations, incomplete(evidence) + never_done(plan, evidence))

        try:
            return verdict(options, seed, plan.pace_s, examine)
        except NoServer as why:
            say(str(why))
            return EXIT_NO_SERVER


if __name__ == "__main__":
    sys.exit(main())
