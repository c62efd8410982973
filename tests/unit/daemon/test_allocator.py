"""Freed memory returns to the system. In a process of its own, because the options are for good."""

import subprocess
import sys

import pytest

# Large blocks with a small one behind each of them, as replies with the values that were read from them.
_SCRIPT = """
import sys
from pathlib import Path
from watcher.daemon.allocator import return_freed_memory

def resident_kib():
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

if sys.argv[1] == "set":
    return_freed_memory()
before = resident_kib()
bytearray(8_000_000)
large, small = [], []
for _ in range(100):
    large.append(bytearray(500_000))
    small.append(bytearray(2_000))
large.clear()
print(resident_kib() - before)
"""


def _kept_kib(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", _SCRIPT, how], capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_large_blocks_that_were_freed_are_resident_no_more() -> None:
    assert _kept_kib("set") < 4 * 1024
