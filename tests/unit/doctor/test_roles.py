"""`watcher check --role`: what a process with some of the roles needs, and what it has and does not need."""

from pathlib import Path
from typing import Any

import pytest

from watcher.cli.options import load, role_overrides
from watcher.doctor.examine import _roles
from watcher.doctor.finding import Finding
from watcher.errors import FixConfiguration

CONFIG = """
[chain]
rpc_urls = ["http://127.0.0.1:9"]
chain_id = 1
[task_manager]
address = "0x1111111111111111111111111111111111111111"
start_block = 0
[operator]
api = "proxy"
url = "http://127.0.0.1:9"
username = "u"
[hook]
target = "a:b"
[ledger]
url = "{ledger}"
"""
POSTGRES = "postgresql://127.0.0.1/watcher"


def findings(folder: Path, role: str | None, monkeypatch: pytest.MonkeyPatch, ledger: str = POSTGRES) -> list[Finding]:
    """Return what the check says of the settings that the command loads for a role."""
    monkeypatch.setenv("WATCHER_OPERATOR__PASSWORD", "x")
    file = folder / "watcher.toml"
    file.write_text(CONFIG.format(ledger=ledger))
    overrides: Any = role_overrides(role)
    return _roles(load(file, overrides=overrides))


def test_a_process_with_every_role_gets_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert findings(tmp_path, None, monkeypatch) == []


def test_the_password_belongs_to_the_role_that_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sends,) = findings(tmp_path, "submit,confirm", monkeypatch)
    assert (sends.verdict, sends.message) == ("ok", "this process has submit, confirm")
    (runs_hook,) = findings(tmp_path, "respond", monkeypatch)
    assert runs_hook.verdict == "warning"
    assert "take it from this host" in runs_hook.message


def test_a_ledger_in_a_file_takes_every_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FixConfiguration, match="role"):
        findings(tmp_path, "respond", monkeypatch, ledger=f"sqlite:///{tmp_path / 'watcher.db'}")
