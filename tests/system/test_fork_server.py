"""The server that forks daemons for the tests: a forked process is one that was started."""

import os
import signal
from pathlib import Path

import pytest

from tests.system.daemon_process import launch, start_command
from tests.system.fork_server import may_fork

BASICS = {"PATH": os.environ["PATH"], "PYTHONFAULTHANDLER": "1"}


@pytest.mark.parametrize("own_interpreter", [False, True])
async def test_a_wrong_setting_ends_a_forked_process_as_any_other(tmp_path: Path, own_interpreter: bool) -> None:
    (tmp_path / "watcher.toml").write_text("[chain]\nchain_id = 0\n")
    log, environment = tmp_path / "daemon.log", {**BASICS, "WATCHER_OPERATOR__API": "none"}
    daemon = await launch([], environment, log, own_interpreter=own_interpreter)
    try:
        assert await daemon.wait() == 78
        assert "watcher: chain.chain_id: must be 1 or more" in daemon.log  # from the file of its own folder
        assert "operator" not in daemon.log  # by its own environment
    finally:
        await daemon.reap()


async def test_a_forked_process_has_its_session_and_dies_of_a_signal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "watcher.toml")  # the start waits for a writer
    daemon = await launch(["--config", str(tmp_path / "watcher.toml")], BASICS, tmp_path / "daemon.log")
    assert daemon.running and os.getsid(daemon.pid) == daemon.pid
    assert await daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    await daemon.reap()


@pytest.mark.parametrize("own_interpreter", [False, True])
async def test_stdout_and_stderr_of_a_command_come_apart(tmp_path: Path, own_interpreter: bool) -> None:
    for arguments, code in ((["version"], 0), (["tasks", "show"], 64)):
        process = await start_command(arguments, BASICS, tmp_path, own_interpreter=own_interpreter)
        out, err = await process.communicate()
        assert process.returncode == code
        assert (bool(out), bool(err)) == (code == 0, code == 64), (out, err)


@pytest.mark.parametrize("name", ["PYTHONOPTIMIZE", "PYTHONUTF8", "LC_ALL", "LOGURU_LEVEL", "SSL_CERT_FILE"])
def test_a_variable_that_imports_read_needs_a_new_interpreter(name: str) -> None:
    assert may_fork(BASICS)
    assert not may_fork({**BASICS, name: "1"})
