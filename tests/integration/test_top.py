"""`watcher top` and `tasks list --watch`: drawn anew in a real terminal, one frame without, one object as JSON."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit.filled import OPEN_TASKS, fill
from watcher.cli import top

NO_CONFIG = Path("there-are-no-settings.toml")
_LIMIT_S = 60


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("top") / "watcher.db"
    fill(path, 1_000)
    return path


def test_json_is_one_object(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top.top(NO_CONFIG, file, as_json=True)
    moment = json.loads(capsys.readouterr().out)
    assert (moment["all_tasks"], moment["open_tasks"], moment["lag_blocks"]) == (1_000, OPEN_TASKS + 1, 0)
    assert sum(moment["states"].values()) == 1_000
    assert moment["urgent"] and all(task["reason"] for task in moment["urgent"])
    left = [task["blocks_left"] for task in moment["urgent"]]
    assert left == sorted(left)


def test_without_a_terminal_one_frame_is_printed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top.top(NO_CONFIG, file)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("watcher of 0x1111") and "final" in lines[4]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("command", [["top", "--every", "0.2"], ["tasks", "list", "--watch"]])
def test_a_terminal_shows_frames_until_it_is_interrupted(file: Path, command: list[str]) -> None:
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        [sys.executable, "-m", "watcher", *command, "--ledger", str(file)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    screen, ends_s = b"", time.monotonic() + _LIMIT_S
    title = b"nearest deadline" if command[0] == "top" else b"reason"
    while screen.count(title) < 2:
        assert time.monotonic() < ends_s, screen[-500:]
        if select.select([master], [], [], 0.5)[0]:
            screen += os.read(master, 65536)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        assert time.monotonic() < ends_s
        if select.select([master], [], [], 0.2)[0]:
            try:
                screen += os.read(master, 65536)
            except OSError:  # the other side has closed
                break
    assert process.wait(_LIMIT_S) == 0
    os.close(master)
    assert b"\x1b[?1049h" in screen, "the other screen, which leaves no trace"
