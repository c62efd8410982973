"""Slow syncs for a child process, by a small library compiled on the spot and preloaded."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

_SOURCE = Path(__file__).with_name("slow_fsync.c")
_COMPILE_TIMEOUT_S = 60


class NoShim(Exception):
    """Syncs cannot be slowed down here; the words say why."""


def build(directory: Path) -> Path:
    """Compile the library into `directory`. Raises NoShim without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoShim("no C compiler (cc, gcc or clang) to build the slow fsync with")
    library = directory / "slow_fsync.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT_S, check=False)
    if done.returncode:
        raise NoShim(f"the slow fsync does not compile here: {done.stderr.strip()[:300]}")
    return library


def environment(library: Path | None, slow_ms: float) -> Mapping[str, str]:
    """What a child needs in its environment; `library` None leaves syncs as they are."""
    if library is None:
        return {}
    return {"LD_PRELOAD": str(library), "SLOW_FSYNC_US": str(int(slow_ms * 1000))}


def verify(folder: Path) -> float:
    """How long one fsync takes in this process, in ms. Raises RuntimeError when a preloaded delay has no effect."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        took_ms = float("inf")
        for _ in range(5):
            file.write(b"x" * 4096)
            file.flush()
            began_s = time.perf_counter()
            os.fsync(file.fileno())
            took_ms = min(took_ms, (time.perf_counter() - began_s) * 1000)
    wanted_ms = int(os.environ.get("SLOW_FSYNC_US", "0")) / 1000
    if took_ms < wanted_ms:
        raise RuntimeError(f"an fsync takes {took_ms:.2f} ms where {wanted_ms:g} ms were added: the shim has no effect")
    return took_ms
