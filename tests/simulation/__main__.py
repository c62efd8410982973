"""Run scenarios: `python -m tests.simulation --seed 7 --trace`, or `--scenarios 10000 --workers 2`."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import islice

from loguru import logger

from tests.simulation.scenario import Report, tell
from watcher.state import LEGAL, State

_CHUNK = 25


@dataclass
class Sum:
    """What many scenarios came to."""

    scenarios: int = 0
    crashes: int = 0
    reorgs: int = 0
    posts: int = 0
    tasks: int = 0
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, report: Report) -> None:
        self.scenarios += 1
        self.crashes += report.lives - 1
        self.reorgs += report.reorgs
        self.posts += report.posts
        self.tasks += sum(report.ends.values())
        self.transitions.update(report.transitions)
        self.ends.update(report.ends)
        if report.wrong is not None:
            self.failures.append((report.seed, report.wrong))


def _several(seeds: list[int]) -> list[Report]:
    logger.remove()
    return [tell(seed) for seed in seeds]


def _chunks(first: int, count: int) -> Iterator[list[int]]:
    seeds = iter(range(first, first + count))
    while chunk := list(islice(seeds, _CHUNK)):
        yield chunk


def _many(first: int, count: int, workers: int) -> Sum:
    total, began_s = Sum(), time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        waiting = [pool.submit(_several, chunk) for chunk in _chunks(first, count)]
        for done in as_completed(waiting):
            for report in done.result():
                total.add(report)
                if report.wrong is not None:
                    print(f"\nseed {report.seed}: {report.wrong}", flush=True)
            pace = total.scenarios / (time.monotonic() - began_s)
            print(f"\r{total.scenarios}/{count} scenarios, {pace:.1f} a second", end="", file=sys.stderr, flush=True)
    _table(total, time.monotonic() - began_s)
    return total


def _until_wrong(first: int, count: int, budget_s: float) -> int:
    """One after the other in this process, to the first broken promise. What the hunt for planted bugs uses."""
    began_s = time.process_time()
    for seed in range(first, first + count):
        report = tell(seed)
        if report.wrong is not None:
            print(f"seed {seed}: {report.wrong}")
            return 1
        if time.process_time() - began_s > budget_s:
            break
    print(f"{seed - first + 1} scenarios, every promise held")
    return 0


def _table(total: Sum, took_s: float) -> None:
    legal = {(str(from_), str(to)) for from_, goals in LEGAL.items() for to in goals}
    seen = {move for move in total.transitions if move[0]}
    print(
        f"\n{total.scenarios} scenarios in {took_s:.0f} s, {total.scenarios / took_s:.1f} a second\n"
        f"{total.tasks} tasks, {total.posts} POSTs, {total.reorgs} reorgs, {total.crashes} crashes and stops\n"
        f"ends: {', '.join(f'{count} {state}' for state, count in total.ends.most_common())}\n"
        f"moves: {len(seen & legal)} of {len(legal)} legal ones happened"
    )
    never = sorted(legal - seen)
    for state in State:
        missed = [to for from_, to in never if from_ == state]
        if missed:
            print(f"  never {state} -> {', '.join(missed)}")
    print(
        f"violations: {len(total.failures)}"
        + "".join(f"\n  seed {seed}: {failure}" for seed, failure in total.failures)
    )


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    asked.add_argument("--seed", type=int, default=None, help="one scenario")
    asked.add_argument("--trace", action="store_true", help="tell the story of it")
    asked.add_argument("--scenarios", type=int, default=1000)
    asked.add_argument("--first", type=int, default=1, help="the first seed of many")
    asked.add_argument("--workers", type=int, default=2)
    asked.add_argument("--until-wrong", type=float, default=None, metavar="SECONDS", help="stop at the first violation")
    options = asked.parse_args()
    logger.remove()
    if options.until_wrong is not None:
        return _until_wrong(options.first, options.scenarios, options.until_wrong)
    if options.seed is None:
        return 1 if _many(options.first, options.scenarios, options.workers).failures else 0
    report = tell(options.seed, print if options.trace else None)
    print(f"seed {options.seed}: {report.wrong or 'every promise held'}")
    return 0 if report.wrong is None else 1


if __name__ == "__main__":
    sys.exit(main())
