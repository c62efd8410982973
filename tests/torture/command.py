"""What the commands of torture and chaos have in common: their options, their folder, and how they report a verdict."""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.torture.evidence import Evidence
from tests.torture.table import particulars, table

EXIT_BROKEN, EXIT_INCOMPLETE = 1, 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """The defaults of a command."""

    tasks: int
    kills: int
    reorgs: int
    minutes: float


def parser_of(program: str, about: str | None, sizes: Sizes) -> argparse.ArgumentParser:
    """The options that both commands have."""
    parser = argparse.ArgumentParser(prog=program, description=about)
    parser.add_argument("--tasks", type=int, default=sizes.tasks, help="tasks on the chain at the end")
    kills = "SIGKILLs of a daemon, each followed by a start"
    parser.add_argument("--kills", type=int, default=sizes.kills, help=kills)
    reorgs = "reorgs, of depth 1 to 20 and of five kinds"
    parser.add_argument("--reorgs", type=int, default=sizes.reorgs, help=reorgs)
    parser.add_argument("--seed", type=int, default=0, help="makes the same choices again; 0 draws one")
    parser.add_argument("--minutes", type=float, default=sizes.minutes, help="the havoc is cut short after that")
    parser.add_argument("--quorum", type=int, default=2, choices=(1, 2), help="chain.quorum of the daemons")
    parser.add_argument("--without", nargs="*", default=[], metavar="FAULT", help="leave out, as rpc.lag or api.reset")
    parser.add_argument("--folder", type=Path, help="keeps the ledger, the logs and the journals there")
    return parser


def seed_of(options: argparse.Namespace) -> int:
    return options.seed or random.SystemRandom().randrange(1, 2**32)


@contextmanager
def folder_of(options: argparse.Namespace) -> Iterator[Path]:
    """The folder that the options name, or one that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="havoc-") as fallback:
        folder = options.folder or Path(fallback)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


@dataclass(frozen=True, slots=True)
class Finding:
    """What a run has shown: `violations` by the name of the check, `gaps` are what was never tried."""

    evidence: Evidence
    violations: Mapping[str, Sequence[str]]
    gaps: Sequence[str]


def verdict(options: argparse.Namespace, seed: int, pace_s: float, examine: Callable[[], Finding]) -> int:
    """Run to the end, print what `examine` has found, and return the exit code."""
    say(f"seed {seed}; about {pace_s / 60:.1f} minutes of havoc, then the quiet")
    began_s = time.monotonic()
    finding = examine()
    broken = any(finding.violations.values())
    print(table(finding.evidence, finding.violations, finding.gaps, time.monotonic() - began_s))
    print(particulars(finding.violations, finding.gaps))
    if broken and options.folder is None:
        print("run it again with --folder to keep the evidence")
    return EXIT_BROKEN if broken else EXIT_INCOMPLETE if finding.gaps else 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
