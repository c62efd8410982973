"""The CPU and memory of a process and of those below it."""

import asyncio
import sys
from pathlib import Path

import pytest

from bench.errors import Failed
from bench.process import child

_BUSY = "import time; ends_s = time.process_time() + 0.3\nwhile time.process_time() < ends_s: pass"
_WITH_ENDED_CHILD = f"""
import subprocess, sys, time
subprocess.run([sys.executable, "-c", {_BUSY!r}])
print("done", flush=True)
time.sleep(60)
"""


async def test_the_cpu_of_a_child_that_has_ended_counts(tmp_path: Path) -> None:
    async with child("parent", (sys.executable, "-c", _WITH_ENDED_CHILD), tmp_path) as running:
        async with asyncio.timeout(60):
            while "done" not in running.log_end():  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.01)
        usage = running.usage()
    assert usage.children_cpu_s >= 0.25
    assert usage.resident_mib > 1
    assert usage.whole_cpu_s == usage.cpu_s + usage.children_cpu_s
    assert not running.running


async def test_a_process_that_has_ended_is_reported_with_its_output(tmp_path: Path) -> None:
    code = "import sys; print('the reason'); sys.exit(3)"
    async with child("short", (sys.executable, "-c", code), tmp_path) as running:
        await running.process.wait()
        with pytest.raises(Failed, match="short ended with code 3: the reason"):
            running.require_running()
