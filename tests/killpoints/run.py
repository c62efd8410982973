"""All points of a run, or a sample of them, and the table of what came of it."""

import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.killpoints.rig import Point, Rig, Trial

# Runs differ a little: a commit more or less. Points that a run does not reach are told as such.
_MARGIN = 1.1
_ERRORS = (("fdatasync", "EIO"), ("fdatasync", "EIO x20"), ("pwrite64", "ENOSPC x20"), ("pwrite64", "ENOSPC"),
           ("pwrite64", "EIO"))  # fmt: skip
_rig: list[Rig] = []


def strace_works() -> str | None:
    """Why strace cannot be used here, None where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    status = os.system("strace -qq -o /dev/null -e trace=none true 2>/dev/null")
    return None if status == 0 else "strace may not trace here"


def points(counted: Mapping[tuple[str, str], int]) -> list[Point]:
    """Every point: a kill at each call, then each error once and for 20 calls."""
    found_points: list[Point] = []
    for (thread, call), count in sorted(counted.items()):
        found_points += [Point(thread, call, "KILL", number) for number in range(1, int(count * _MARGIN) + 2)]
    for call, act in _ERRORS:
        for thread in ("main", "writer"):
            found_points += [Point(thread, call, act, start.number) for start in found_points
                      if (start.thread, start.call, start.act) == (thread, call, "KILL")]  # fmt: skip
    return found_points


def sample(every: Sequence[Point], count: int, seed: int) -> list[Point]:
    """So many points, of each kind in proportion, but of the rare ones five, or as many as fit."""
    chance = random.Random(seed)
    kinds: dict[tuple[str, str, str], list[Point]] = defaultdict(list)
    for point in every:
        kinds[point.kind].append(point)
    least = max(1, min(5, count // len(kinds)))
    chosen = [point for group in kinds.values() for point in chance.sample(group, min(least, len(group)))]
    rest = sorted(set(every) - set(chosen))
    chosen += chance.sample(rest, max(0, min(count - len(chosen), len(rest))))
    chance.shuffle(chosen)
    return chosen[:count]


def _settle_in(folder: str) -> None:
    own = Path(folder) / str(os.getpid())
    own.mkdir()
    _rig.append(Rig(own))


def _count(_: int) -> dict[tuple[str, str], int]:
    return _rig[0].count()


def _try_out(point: Point) -> Trial:
    return _rig[0].try_out(point)


class Campaign:
    """Worker processes, each with a rig; they fork, so each has one thread."""

    def __init__(self, workers: int) -> None:
        self._folder = tempfile.mkdtemp(prefix="killpoints-")
        self._pool = multiprocessing.get_context("fork").Pool(workers, _settle_in, (self._folder,))

    def __enter__(self) -> "Campaign":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()
        self._pool.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def every(self) -> list[Point]:
        """The points of this program, counted in runs that nobody disturbs."""
        most: Counter[tuple[str, str]] = Counter()
        for counted in self._pool.imap_unordered(_count, range(3)):
            most |= Counter(counted)
        return points(most)

    def strike(self, chosen: Sequence[Point], minutes: float, say: Callable[[str], None]) -> Iterator[Trial]:
        """One after the other, until the time is over."""
        stops_at_s = time.monotonic() + minutes * 60
        for done, trial in enumerate(self._pool.imap(_try_out, chosen), 1):
            yield trial
            for wrong in trial.wrongs:
                say(f"{trial.point}: {wrong}")
            if done % 50 == 0:
                say(f"{done} of {len(chosen)}")
            if time.monotonic() > stops_at_s:
                return


def table(trials: Sequence[Trial]) -> str:
    """A row per kind; `reached`: the run had not ended before the call."""
    lines = [
        "| thread | call | what is done | points | reached | lives | violations |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    kinds: dict[tuple[str, str, str], list[Trial]] = defaultdict(list)
    for trial in trials:
        kinds[trial.point.kind].append(trial)
    for kind, group in kinds.items():
        struck, lives = sum(trial.struck for trial in group), sum(trial.lives for trial in group)
        bad = sum(bool(trial.wrongs) for trial in group)
        lines.append(f"| {' | '.join(kind)} | {len(group)} | {struck} | {lives} | {bad} |")
    return "\n".join(lines)
