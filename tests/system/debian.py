"""Programs and libraries out of Debian's packages, unpacked into a folder of our own: nothing is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "avs-task-watcher-tests"


def unpacked(package: str, pattern: str) -> Path:
    """The one file of the package that the pattern `wanted` finds; skips where the package cannot be had."""
    folder = CACHE / package
    if not list(folder.glob(pattern)):
        if not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
            pytest.skip(f"{package} is not installed, and this machine has no packages of Debian's to take it from")
        folder.mkdir(parents=True, exist_ok=True)
        fetch = ["apt-get", "download", "-qq", package]
        if _ran(fetch, folder) or (_ran(["apt-get", "update", "-qq"], folder) and _ran(fetch, folder)):
            for file in sorted(folder.glob(f"{package}_*.deb"))[-1:]:
                _ran(["dpkg-deb", "-x", file.name, "."], folder)
    matches = sorted(folder.glob(pattern))
    if not matches:
        pytest.skip(f"{package} is not installed, and its package could not be fetched")
    return matches[0]


def _ran(command: list[str], folder: Path) -> bool:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
