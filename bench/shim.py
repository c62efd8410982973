"""Slow fsyncs for a child process, by a small library that is compiled here and preloaded (LD_PRELOAD, ld.so(8))."""

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
    """Fsyncs cannot be slowed down on this machine; the message says why."""


def build(directory: Path) -> Path:
    """Compile the library into `directory` and return its path.

    Raises:
        NoShim: there is no C compiler, or it fails.
    """
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
    """Return the variables of a child with slow fsyncs; `library` None: they stay as they are."""
    if library is None:
        return {}
    return {"LD_PRELOAD": str(library), "SLOW_FSYNC_US": str(int(slow_ms * 1000))}


def verify(folder: Path) -> float:
    """Return the time of one fsync in this process, in ms. Raises RuntimeError if a preloaded delay has no effect."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        took_ms = float("inf")
        for _ in range(5):
            file.write(b"x" * 4096)
            file.flush()
            began_s = time.perf_counter()
            os.fsync(file.fileno())
            took_ms = min(took_ms, (time.perf_counter() - began_s) * 1000)
    delay_ms = int(os.environ.get("SLOW_FSYNC_US", "0")) / 1000
    if took_ms < delay_ms:
        raise RuntimeError(f"the shim has no effect: an fsync takes {took_ms:.2f} ms, and {delay_ms:g} ms are added")
    return took_ms
