"""The conditions of a measurement: date, commit, machine, load."""

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOAD_LIMIT = 0.5  # runnable processes for each core before the start; above it, others compete for the cores


@dataclass(frozen=True, slots=True)
class Conditions:
    """Where and when a measure ran. Loads are averages over a minute: before the first measure, and after this one."""

    date: str
    commit: str
    python: str
    cores: int
    system: str
    load_before: float
    load_after: float


def load() -> float:
    """Return the load average of the last minute."""
    return round(os.getloadavg()[0], 1)


def is_busy(load_average: float) -> bool:
    """Return True if other work disturbs a measurement that starts now."""
    return load_average > LOAD_LIMIT * (os.cpu_count() or 1)


def conditions(commit: str, load_before: float) -> Conditions:
    """Return the conditions of a measure that has just ended."""
    return Conditions(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=commit,
        python=platform.python_version(),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        load_before=load_before,
        load_after=load(),
    )


def current_commit() -> str:
    """Return the abbreviated commit of the working tree, with a "+" if files differ from it; "unknown" without git."""
    head = git("rev-parse", "--short=12", "HEAD")
    return head + ("+" if is_changed() else "") if head else "unknown"


def is_changed() -> bool:
    """Return True if a file that git follows differs from the commit."""
    return bool(git("status", "--porcelain", "--untracked-files=no"))


def git(*arguments: str) -> str:
    """Return the output of a git command; "" if it fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
