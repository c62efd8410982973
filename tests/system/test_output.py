"""Output that is closed, full, or no longer read: words and a code of its own, and never that of a failed proof."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "watcher"]
COMMANDS = [["version"], ["--help"], ["systemd", "print"], ["init", "--force"]]


def run(arguments: list[str], folder: Path, stdout: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*PROGRAM, *arguments], cwd=folder, stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False
    )


@pytest.mark.parametrize("arguments", COMMANDS)
def test_output_that_nobody_reads_is_neither_a_bug_nor_a_failed_proof(arguments: list[str], tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = run(arguments, tmp_path, write_end)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("arguments", COMMANDS)
def test_output_that_finds_no_room_is_told_in_words(arguments: list[str], tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = run(arguments, tmp_path, full)
    os.close(full)
    message = b"watcher: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (75, message)


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_program_that_was_started_without_output_does_its_work(arguments: list[str], tmp_path: Path) -> None:
    shell = ["sh", "-c", '"$@" >&-', "sh", *PROGRAM, *arguments]
    done = subprocess.run(shell, cwd=tmp_path, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
