"""`process_*` under a unit whose /proc shows processes alone."""

import os
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from watcher.health.process_metrics import OwnProcess

NAMES = (
    "virtual_memory_bytes",
    "resident_memory_bytes",
    "start_time_seconds",
    "cpu_seconds_total",
    "open_fds",
    "max_fds",
)


def _read(proc: str) -> dict[str, float | None]:
    registry = CollectorRegistry()
    OwnProcess(registry, proc)
    return {name: registry.get_sample_value(f"process_{name}") for name in NAMES}


def test_process_metrics_are_exported_when_proc_shows_processes_alone(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to(f"/proc/{os.getpid()}")
    metrics = _read(str(tmp_path))
    assert None not in metrics.values(), metrics
    began_s = metrics["start_time_seconds"]
    assert began_s is not None
    assert time.time() - 6 * 3600 < began_s <= time.time() + 1


def test_start_time_agrees_with_the_kernels_boot_time() -> None:
    boot_s = next(
        float(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line[:6] == "btime "
    )
    ticks = float(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    assert _read("/proc")["start_time_seconds"] == pytest.approx(boot_s + ticks, abs=2)


def test_nothing_is_exported_when_there_is_no_proc(tmp_path: Path) -> None:
    assert set(_read(str(tmp_path)).values()) == {None}
