"""The unit files: what systemd makes of them, and what they promise."""

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from watcher.errors import FixConfiguration, FixUsage, Halt
from watcher.settings.names import credential_name
from watcher.settings.problems import FIELDS

FOLDER = Path(__file__).parents[2] / "systemd"
UNIT = FOLDER / "watcher@.service"
DROP_IN = FOLDER / "hook-access.conf"
EXPOSURE_LIMIT = 15  # tenths

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def parse(path: Path) -> dict[str, dict[str, list[str]]]:
    """Section -> key -> values, in order; keys may repeat."""
    sections: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    current = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            sections[current][key].append(value)
    return sections


@pytest.fixture
def service() -> dict[str, list[str]]:
    return parse(UNIT)["Service"]


@pytest.fixture
def runnable(tmp_path: Path) -> Path:
    """The unit with a program that exists on this machine, since `verify` looks for it."""
    text = UNIT.read_text()
    command = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    path = tmp_path / UNIT.name
    path.write_text(text.replace(command, f"ExecStart={shutil.which('true')}"))
    return path


@needs_analyze
def test_systemd_accepts_every_line(runnable: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", str(runnable)], capture_output=True, text=True, timeout=60)
    # An unknown key or value is only warned of.
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.stem in line]) == (0, [])


@needs_analyze
def test_exposure_is_low(runnable: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", str(runnable)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-300:]
    assert "Overall exposure level" in done.stdout


@needs_analyze
def test_the_drop_in_is_accepted_too(runnable: Path) -> None:
    folder = runnable.with_name(f"{runnable.name}.d")
    folder.mkdir()
    # With the lines that are commented out switched on: they are examples, and must work.
    text = "\n".join(
        line.removeprefix("#") if line.startswith("#") and line[1:2].isupper() else line
        for line in DROP_IN.read_text().splitlines()
    )
    assert "\nSystemCallFilter=@resources" in text
    (folder / DROP_IN.name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(runnable)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, [line for line in done.stderr.splitlines() if DROP_IN.name in line]) == (0, [])


@needs_analyze
def test_a_restart_is_not_tried_where_only_a_person_can_help(service: dict[str, list[str]]) -> None:
    (names,) = service["RestartPreventExitStatus"]
    done = subprocess.run(
        ["systemd-analyze", "exit-status", *names.split()], capture_output=True, text=True, check=True, timeout=60
    )
    codes = {int(line.split()[1]) for line in done.stdout.splitlines()[1:]}
    assert codes == {FixConfiguration.exit_code, FixUsage.exit_code, Halt.exit_code}


def test_credentials_are_named_as_the_settings_read_them(service: dict[str, list[str]]) -> None:
    known = {credential_name(key) for key in FIELDS}
    named = [value.partition(":")[0] for value in service["LoadCredential"]]
    assert named == ["operator__password"]
    suggested = [
        line.split("=")[1].split(":")[0] for line in UNIT.read_text().splitlines() if "#   LoadCredential=" in line
    ]
    assert suggested == ["chain__rpc_urls", "alerts__urls"]
    assert known >= {*named, *suggested}


def test_the_daemon_is_supervised_by_its_own_notifications(service: dict[str, list[str]]) -> None:
    assert service["Type"] == ["notify"]
    assert service["NotifyAccess"] == ["main"]
    assert service["WatchdogSec"] == ["60"]
    assert service["Restart"] == ["always"]  # a hook, or a person, may end the daemon with SIGTERM: exit code 0
    assert parse(UNIT)["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert int(service["TimeoutStopSec"][0]) > 60  # longer than one request to the API may take by default
    assert service["ExecStart"][0].endswith("/watcher run --config /etc/avs-watcher/%i.toml")
    # A node that is down must neither fail the start nor restart the daemon that waits for it.
    assert "ExecStartPre" not in service
    assert service["TimeoutStartSec"] == ["infinity"]


def test_instances_keep_apart_and_secrets_stay_inside(service: dict[str, list[str]]) -> None:
    assert service["StateDirectory"] == ["avs-watcher/%i"]
    assert service["StateDirectoryMode"] == ["0750"]
    assert service["UMask"] == ["0027"]
    assert service["LimitCORE"] == ["0"]
    assert not any("password" in value.lower() for value in service["Environment"] + service["ExecStart"])


def test_a_hook_is_limited_and_does_not_take_the_service_down(service: dict[str, list[str]]) -> None:
    assert service["MemoryMax"] == ["50%"]
    assert int(service["TasksMax"][0]) >= 64 * 4  # hook.workers at most, each with a supervisor and two threads
    assert service["OOMPolicy"] == ["continue"]  # "stop" would end the daemon with the worker
    assert service["KillMode"] == ["mixed"]  # what escaped from a worker is ended with the service
    assert service["CacheDirectory"] == service["StateDirectory"]


def test_the_workers_may_shut_themselves_off(service: dict[str, list[str]]) -> None:
    """Landlock is in no group of system calls of systemd 252; later lines add to and take from the earlier ones."""
    filters = service["SystemCallFilter"]
    calls = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
    assert calls <= set(filters[-1].split())
    assert filters[0] == "@system-service"


def test_the_user_of_the_unit_is_the_one_that_is_made(service: dict[str, list[str]]) -> None:
    (line,) = [
        line for line in (FOLDER / "sysusers.d" / "avs-task-watcher.conf").read_text().splitlines() if line[:1] == "u"
    ]
    kind, name, ident, *_ = line.split()
    assert (kind, name, ident) == ("u", *service["User"], "-")
    assert service["Group"] == service["User"]
    assert "DynamicUser" not in service
