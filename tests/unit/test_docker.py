"""The image and compose.yaml against what they repeat: units, settings, the wheel, Prometheus' rules, the page."""

import configparser
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from watcher.errors import FixConfiguration
from watcher.health.probe_fields import readyz_fields
from watcher.settings.load import load
from watcher.settings.names import credential_name, env_name
from watcher.settings.problems import FIELDS

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
WATCHER: dict[str, Any] = COMPOSE["services"]["watcher"]
INSTRUCTIONS = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in INSTRUCTIONS if line.startswith(f"{name} ")]


def image_environment() -> dict[str, str]:
    pairs = (pair.partition("=") for line in instructions("ENV") for pair in line.split())
    return {name: value for name, _, value in pairs}


def unit() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "systemd" / "watcher@.service")
    return parser["Service"]


def test_bases_have_tags_and_the_least_python() -> None:
    bases = [line.split()[0] for line in instructions("FROM")]
    assert len(set(bases)) == 1, "the environment is built by the Python that runs it"
    least = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert bases[0].startswith(f"python:{least}-slim-")
    images = [service["image"] for name, service in COMPOSE["services"].items() if name != "watcher"]
    assert all(re.fullmatch(r"[a-z/]+:v?\d[\w.-]*", image) for image in images), images


def test_the_last_user_is_no_root_and_has_a_number() -> None:
    assert instructions("USER") == ["10001:10001"]
    assert f"--uid {instructions('USER')[0].partition(':')[0]} " in "\n".join(INSTRUCTIONS)
    assert "chown 10001 " in (ROOT / "docs" / "docker.md").read_text()


def test_every_path_of_the_wheel_is_in_the_build() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = {word for line in instructions("COPY") for word in line.split()[:-1]}
    needed = {*wheel["packages"], *wheel["force-include"], *wheel["shared-data"], "pyproject.toml", "README.md"}
    assert {path for path in needed if path.split("/")[0] not in copied and path not in copied} == set()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    from_build = {word for word in copied if not word.startswith("/") and "--from" not in word}
    assert {word for word in from_build if f"!{word}" not in ignored} == set()


def test_variables_and_secrets_are_those_of_the_settings() -> None:
    environment = image_environment()
    known = {env_name(key) for key in FIELDS} | {"WATCHER_CONFIG"}
    assert {name for name in environment if name.startswith("WATCHER_")} <= known
    assert set(WATCHER["secrets"]) <= {credential_name(key) for key in FIELDS}
    assert environment["CREDENTIALS_DIRECTORY"] == "/run/secrets"
    assert set(COMPOSE["secrets"]) == {
        name for service in COMPOSE["services"].values() for name in service.get("secrets", [])
    }
    page = (ROOT / "docs" / "docker.md").read_text()
    assert all(f" {name}" in page for name in COMPOSE["secrets"])
    state = environment["STATE_DIRECTORY"]
    assert state in [volume.split(":")[1] for volume in WATCHER["volumes"]] and state in instructions("VOLUME")


def test_settings_of_the_container_load_once_they_are_filled_in(tmp_path: Path) -> None:
    text = (ROOT / "docker" / "watcher.toml").read_text()
    secrets = {"operator__password": "secret-1234", "ledger__url": "postgresql://watcher:pw@postgres/watcher"}
    for name, value in secrets.items():
        (tmp_path / name).write_text(value)
    environ = image_environment() | {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    config = tmp_path / "watcher.toml"
    hook = ROOT / "docker" / "hook"
    config.write_text(text.replace("/opt/my-avs", str(hook)))
    with pytest.raises(FixConfiguration) as caught:
        load(config, environ=environ)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["task_manager.address"]
    config.write_text(config.read_text().replace("0x" + "00" * 20, "0x" + "22" * 20))
    settings = load(config, environ=environ)
    assert settings.ledger.url == secrets["ledger__url"]
    assert settings.http.listen == "0.0.0.0:9010"
    assert "/opt/my-avs" in [volume.split(":")[1] for volume in WATCHER["volumes"]]


def test_limits_are_those_of_the_unit() -> None:
    service = unit()
    assert WATCHER["stop_grace_period"] == service["TimeoutStopSec"] + "s"
    assert WATCHER["pids_limit"] == int(service["TasksMax"])
    assert WATCHER["ulimits"] == {"core": int(service["LimitCORE"]), "nofile": int(service["LimitNOFILE"])}
    unit_variables = dict(pair.split("=") for pair in service["Environment"].split())
    assert unit_variables.items() <= image_environment().items()
    assert (
        WATCHER["read_only"]
        and WATCHER["cap_drop"] == ["ALL"]
        and WATCHER["security_opt"] == ["no-new-privileges:true"]
    )


def test_the_health_check_asks_a_path_that_is_served() -> None:
    (line,) = (line for line in INSTRUCTIONS if line.startswith("HEALTHCHECK"))
    command = json.loads(line.partition(" CMD ")[2])
    assert "http://127.0.0.1:9010/readyz" in command[2]
    compile(command[2], "healthcheck", "exec")
    assert callable(readyz_fields)
    assert '"/readyz"' in (ROOT / "watcher" / "health" / "http.py").read_text()


def test_prometheus_and_grafana_find_what_they_need() -> None:
    prometheus = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert f'job="{job["job_name"]}"' in (ROOT / "monitoring" / "alerts.yml").read_text()
    assert job["static_configs"] == [{"targets": ["watcher:9010"]}]
    mounts = [volume.split(":") for service in COMPOSE["services"].values() for volume in service.get("volumes", [])]
    hosts = {host: inside for host, inside, *_ in mounts if host.startswith("./")}
    assert [host for host in hosts if not (ROOT / host).exists()] == []
    assert prometheus["rule_files"] == [hosts["./monitoring/alerts.yml"]]
    provisioning = ROOT / "docker" / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "avs-watcher.yml").read_text())["providers"]
    assert Path(hosts["./monitoring/grafana.json"]).parent == Path(provider["options"]["path"])
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_ports_are_open_on_this_machine_alone() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 3 and all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_is_in_a_file_of_the_repository() -> None:
    kept = subprocess.run(["git", "ls-files", "docker/secrets"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert kept.stdout.split() in (["docker/secrets/.gitignore"], [])
    names = [name for name in image_environment() if "PASSWORD" in name or "TOKEN" in name]
    assert names == []


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint not installed")
def test_the_dockerfile_has_no_finding() -> None:
    done = subprocess.run(["hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
