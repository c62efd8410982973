"""The memory of processes below a supervisor, held to a real process that allocates."""

import subprocess
import sys

from watcher.hook.footprint import footprint_below

MIB = 1 << 20


def test_memory_of_a_child_and_its_high_water_mark_are_seen() -> None:
    code = "import sys; print(len(bytearray(64 << 20)), flush=True); sys.stdin.read()"
    # A parent of its own: this process may have other children.
    command = ["sh", "-c", '"$0" -c "$1"; true', sys.executable, code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline()
        seen = footprint_below(parent.pid)
        assert seen is not None
        assert seen.peak_bytes > 64 * MIB > seen.rss_bytes


def test_process_that_is_gone_has_no_memory() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert footprint_below(child.pid) is None
