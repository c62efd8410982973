"""`python -m tests.torture`: tries to break the watcher, and tells what it tried and what it found.

Exit code 0: nothing found and everything tried. 1: a promise was broken. 3: something was never tried, so that the
verdict is void.
"""

import asyncio
import sys

from tests.torture.command import Finding, Sizes, folder_of, parser_of, say, seed_of, verdict
from tests.torture.oracle import incomplete, violations_of
from tests.torture.plan import make_plan
from tests.torture.run import torture


def main() -> int:
    options = parser_of("make torture", __doc__, Sizes(tasks=1000, kills=40, reorgs=20, minutes=60)).parse_args()
    seed = seed_of(options)
    plan = make_plan(
        options.tasks, options.kills, options.reorgs, seed, options.minutes, options.without, options.quorum
    )

    with folder_of(options) as folder:

        def examine() -> Finding:
            evidence = asyncio.run(torture(folder, plan, say))
            return Finding(evidence, violations_of(evidence), incomplete(evidence))

        return verdict(options, seed, plan.pace_s, examine)


if __name__ == "__main__":
    sys.exit(main())
