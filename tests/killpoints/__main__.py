"""`python -m tests.killpoints`: SIGKILL, ENOSPC and EIO at every write, sync and send of a run of 20 tasks.

Exit codes: 0 nothing found, 1 a promise was broken, 3 not all points were tried.
"""

import argparse
import sys
import time

from tests.killpoints.run import Campaign, sample, strace_works, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.killpoints", description=__doc__)
    parser.add_argument("--sample", type=int, help="so many points instead of all")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--kills", action="store_true", help="SIGKILL only, no errors")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so many, tried or not")
    asked = parser.parse_args()
    if (why := strace_works()) is not None:
        print(why)
        return 3
    began_s = time.monotonic()
    with Campaign(asked.workers) as campaign:
        every = [point for point in campaign.every() if point.act == "KILL" or not asked.kills]
        chosen = every if asked.sample is None else sample(every, asked.sample, asked.seed)
        print(f"{len(chosen)} of {len(every)} points", flush=True)
        trials = list(campaign.strike(chosen, asked.minutes, lambda line: print(line, flush=True)))
    print(table(trials))
    wrong = sum(bool(trial.wrongs) for trial in trials)
    print(f"{len(trials)} points, {wrong} with violations, {(time.monotonic() - began_s) / 60:.1f} minutes")
    if wrong:
        return 1
    return 0 if len(trials) == len(chosen) else 3


if __name__ == "__main__":
    sys.exit(main())
