"""`watcher systemd`: the units it writes are the shipped ones, for this installation, and it says what it refuses."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.test_unit_file import EXPOSURE_LIMIT, FOLDER, needs_analyze, parse
from watcher.cli import systemd
from watcher.errors import FixUsage
from watcher.settings.names import credential_name

PROGRAM = Path(sys.prefix) / "bin" / "watcher"
BACKUP = FOLDER / "watcher-backup@.service"


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this environment lay where the unit sees it."""
    monkeypatch.setattr(systemd, "_HIDDEN", ())


def test_print_shows_every_unit_with_the_program_of_this_installation() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "watcher", "systemd", "print"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if line.startswith("ExecStart=")]
    assert len(commands) == 3
    assert all(line.startswith(f"ExecStart={PROGRAM} ") for line in commands)
    assert systemd.SHIPPED_PROGRAM not in done.stdout
    for name in systemd.UNITS:
        assert f"# /etc/systemd/system/{name}\n" in done.stdout


def test_install_writes_below_a_root_and_tells_what_is_there_already(
    tmp_path: Path, visible: None, capsys: pytest.CaptureFixture[str]
) -> None:
    systemd.install(dry_run=True, root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert "would write" in capsys.readouterr().out
    systemd.install(dry_run=False, root=tmp_path)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    units = {f"etc/systemd/system/{name}" for name in systemd.UNITS}
    assert written == {*units, "etc/sysusers.d/avs-task-watcher.conf"}
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o644 for name in written)
    capsys.readouterr()
    changed = tmp_path / "etc/systemd/system/watcher@.service"
    changed.write_text("mine")
    systemd.install(dry_run=False, root=tmp_path)
    output = capsys.readouterr().out
    assert output.count("unchanged: ") == 3
    assert f"wrote {changed} (it exists, and differs)" in output
    assert f"ExecStart={PROGRAM} run" in changed.read_text()


def test_without_root_it_refuses_with_words(visible: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FixUsage, match="needs root; run it with sudo"):
        systemd.install(dry_run=False, root=Path("/"))


@pytest.mark.parametrize("hidden", ["the program", "its interpreter"])
def test_an_environment_the_unit_cannot_see_is_refused(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = PROGRAM.parent if hidden == "the program" else Path(sys.executable).resolve().parent
    monkeypatch.setattr(systemd, "_HIDDEN", (str(folder),))
    with pytest.raises(FixUsage, match="which the unit does not see") as caught:
        systemd.install(dry_run=True, root=Path("/"))
    assert str(folder) in str(caught.value)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, visible: None) -> None:
    (tmp_path / "etc").write_text("a file where a folder should be")
    with pytest.raises(FixUsage, match=r"etc/.* cannot be written"):
        systemd.install(dry_run=False, root=tmp_path)


@needs_analyze
def test_systemd_accepts_the_backup_units(tmp_path: Path) -> None:
    for name in (BACKUP.name, "watcher-backup@.timer"):
        text = (FOLDER / name).read_text().replace(systemd.SHIPPED_PROGRAM, str(shutil.which("true")))
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", str(tmp_path / name)], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, [line for line in done.stderr.splitlines() if "watcher" in line]) == (0, [])
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}"]
    done = subprocess.run([*command, str(tmp_path / BACKUP.name)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-300:]


def test_backup_unit_has_the_ledger_without_password_or_network() -> None:
    daemon, backup = parse(FOLDER / "watcher@.service")["Service"], parse(BACKUP)["Service"]
    for key in ("User", "Group", "StateDirectory", "StateDirectoryMode", "WorkingDirectory", "UMask", "LimitCORE"):
        assert backup[key] == daemon[key], key
    assert "LoadCredential" not in backup
    assert backup["PrivateNetwork"] == ["yes"]
    suggested = [line.split("=")[1] for line in BACKUP.read_text().splitlines() if "#   LoadCredential=" in line]
    assert [setting.split(":")[0] for setting in suggested] == [credential_name(("chain", "rpc_urls"))]
    assert parse(FOLDER / "watcher-backup@.timer")["Timer"]["Persistent"] == ["yes"]


def test_a_reload_is_the_signal_the_daemon_reads_its_settings_at() -> None:
    # Not /bin/kill: a small system has none.
    assert parse(FOLDER / "watcher@.service")["Service"]["ExecReload"] == ["/bin/sh -c 'kill -HUP ${MAINPID}'"]


def test_installation_in_the_middle_of_an_upgrade_is_restarted(tmp_path: Path) -> None:
    """Exit code 1 means that a person has to look at the chain, and Python gives it for trouble of its own too."""
    (tmp_path / "loguru.py").write_text("raise ImportError('half of it is there')\n")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{tmp_path}{os.pathsep}{FOLDER.parent}"}
    command = [sys.executable, "-m", "watcher", "run"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 70
    assert done.stderr.splitlines()[-1] == (
        "watcher: the installation is broken (ImportError: half of it is there); install the package again"
    )
