"""deploy/kubernetes against the schemas of Kubernetes, and against what it repeats: image, unit, settings, rules."""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from watcher.errors import FixConfiguration
from watcher.health.http import _PROBES
from watcher.settings.daemon import ROLES
from watcher.settings.load import load
from watcher.settings.names import credential_name
from watcher.settings.problems import FIELDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
SCHEMAS: dict[str, Any] = json.loads(Path(__file__).with_name("kubernetes.json").read_text())
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    each for name in KUSTOMIZATION["resources"] for each in yaml.safe_load_all((FOLDER / name).read_text())
]
DEPLOYMENTS = {
    each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in OBJECTS if each["kind"] == "Deployment"
}
PODS = {role: each["spec"]["template"] for role, each in DEPLOYMENTS.items()}


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for each in OBJECTS if each["kind"] == kind]


def container(role: str) -> dict[str, Any]:
    (only,) = PODS[role]["spec"]["containers"]
    return dict(only)


def image(name: str) -> list[str]:
    """The arguments of an instruction of the Dockerfile."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def secrets_of(role: str) -> dict[str, str]:
    """Path below /run/secrets -> name of the Secret."""
    (volume,) = (each for each in PODS[role]["spec"]["volumes"] if each["name"] == "secrets")
    sources = [source["secret"] for source in volume["projected"]["sources"]]
    return {item["path"]: secret["name"] for secret in sources for item in secret["items"]}


@pytest.mark.parametrize("each", OBJECTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_object_is_valid_by_the_schema_of_its_kind(each: dict[str, Any]) -> None:
    schema = {"$ref": f"#/$defs/{each['kind']}", "$defs": SCHEMAS["$defs"]}
    jsonschema.Draft202012Validator(schema).validate(each)


@pytest.mark.parametrize(
    ("role", "change"),
    [
        ("watch", lambda each: each["spec"].update(replica=2)),
        ("watch", lambda each: each["spec"].update(replicas="two")),
        ("submit", lambda each: each["spec"]["template"]["spec"]["containers"][0].update(arg=["run"])),
        ("submit", lambda each: each["spec"]["template"]["spec"].pop("containers")),
    ],
)
def test_schema_refuses_what_kubernetes_would(role: str, change: Any) -> None:
    wrong = json.loads(json.dumps(DEPLOYMENTS[role]))
    change(wrong)
    schema = {"$ref": "#/$defs/Deployment", "$defs": SCHEMAS["$defs"]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(wrong)


def test_kustomization_lists_every_file() -> None:
    assert {KUSTOMIZATION["apiVersion"], KUSTOMIZATION["kind"]} == {
        "kustomize.config.k8s.io/v1beta1",
        "Kustomization",
    }
    listed = {*KUSTOMIZATION["resources"], "kustomization.yaml"}
    listed |= {file for each in KUSTOMIZATION["configMapGenerator"] for file in each["files"]}
    assert {path.name for path in FOLDER.iterdir()} == listed
    assert {each["image"] for each in map(container, ROLES)} == {each["name"] for each in KUSTOMIZATION["images"]}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl not installed")
def test_kustomize_renders_every_object() -> None:
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=False)
    if "unknown command" in done.stderr or "not found" in done.stderr:
        pytest.skip(done.stderr.strip())
    rendered = list(yaml.safe_load_all(done.stdout))
    assert len(rendered) == len(OBJECTS) + 1, done.stderr
    (settings,) = (each for each in rendered if each["kind"] == "ConfigMap")
    assert settings["data"].keys() == {"watcher.toml"}
    for pod in (each["spec"]["template"]["spec"] for each in rendered if each["kind"] == "Deployment"):
        assert pod["volumes"][0]["configMap"]["name"] == settings["metadata"]["name"]
        assert pod["containers"][0]["image"] == "registry.example/my-avs-watcher:1"


def test_each_role_has_a_deployment_that_survives_the_loss_of_a_pod() -> None:
    assert DEPLOYMENTS.keys() == set(ROLES)
    for role, each in DEPLOYMENTS.items():
        assert container(role)["args"] == ["run", "--role", role]
        assert each["spec"]["replicas"] >= 2
        assert each["spec"]["selector"]["matchLabels"] == PODS[role]["metadata"]["labels"]
    budgets = [each["spec"] for each in of_kind("PodDisruptionBudget")]
    assert [budget["selector"]["matchLabels"] for budget in budgets] == [
        each["metadata"]["labels"] for each in DEPLOYMENTS.values()
    ]
    assert all(budget["maxUnavailable"] == 1 for budget in budgets)


def test_roles_differ_in_arguments_size_and_secrets_alone() -> None:
    pods = []
    for role in ROLES:
        pod = json.loads(json.dumps(PODS[role]["spec"]).replace(f'"{role}"', '"ROLE"'))
        only = pod["containers"][0]
        assert set(only.pop("resources")["limits"]) == {"memory"}
        pod["volumes"] = [each for each in pod["volumes"] if each["name"] != "secrets"]
        pods.append(pod)
    assert all(pod == pods[0] for pod in pods)


def test_only_the_role_that_sends_has_the_password() -> None:
    ledger = {"ledger__url": "avs-watcher-ledger"}
    for role in ROLES:
        password = {"operator__password": "avs-watcher-operator"} if role == "submit" else {}
        assert secrets_of(role) == ledger | password
    assert set(secrets_of("submit")) <= {credential_name(key) for key in FIELDS}
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    assert all(f" {name} --from-file={path}" in page for path, name in secrets_of("submit").items())


@pytest.mark.parametrize("role", ROLES)
def test_settings_load_with_the_secrets_of_the_role(role: str, tmp_path: Path) -> None:
    values = {"operator__password": "secret-1234", "ledger__url": "postgresql://watcher:pw@postgres/watcher"}
    for name in secrets_of(role):
        (tmp_path / name).write_text(values[name])
    variables = dict(pair.split("=") for line in image("ENV") for pair in line.split())
    environ = variables | {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    config = tmp_path / "watcher.toml"
    text = (FOLDER / "watcher.toml").read_text()
    config.write_text(text.replace("/opt/my-avs", str(ROOT / "docker" / "hook")))
    overrides = {"daemon.roles": role}
    with pytest.raises(FixConfiguration) as caught:
        load(config, overrides, environ)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["task_manager.address"]
    config.write_text(config.read_text().replace("0x" + "00" * 20, "0x" + "22" * 20))
    settings = load(config, overrides, environ)
    assert settings.daemon.roles == (role,)
    assert settings.ledger.url == values["ledger__url"]


def test_paths_are_those_of_the_image() -> None:
    variables = dict(pair.split("=") for line in image("ENV") for pair in line.split())
    mounts = {each["name"]: each["mountPath"] for each in container("watch")["volumeMounts"]}
    assert mounts == {
        "settings": str(Path(variables["WATCHER_CONFIG"]).parent),
        "secrets": variables["CREDENTIALS_DIRECTORY"],
        "state": variables["STATE_DIRECTORY"],
        "tmp": "/tmp",
    }
    assert f"{container('watch')['ports'][0]['containerPort']}" in image("EXPOSE")
    assert variables["WATCHER_HTTP__LISTEN"].endswith(f":{container('watch')['ports'][0]['containerPort']}")


def test_pods_have_as_few_rights_as_the_unit() -> None:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "systemd" / "watcher@.service")
    unit = parser["Service"]
    pod, only = PODS["watch"]["spec"], container("watch")
    uid = int(image("USER")[-1].partition(":")[0])
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "fsGroup": uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert (unit["NoNewPrivileges"], unit["CapabilityBoundingSet"], unit["ProtectSystem"]) == ("yes", "", "strict")
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["terminationGracePeriodSeconds"] == int(unit["TimeoutStopSec"])
    assert pod["enableServiceLinks"] is False and pod["automountServiceAccountToken"] is False
    (namespace,) = of_kind("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespace["metadata"]["name"] == KUSTOMIZATION["namespace"]


def test_probes_ask_paths_that_are_served() -> None:
    only = container("watch")
    probes = {name: only[name] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["httpGet"]["path"] for probe in probes.values()} <= {*_PROBES}
    assert all(probe["httpGet"]["port"] == only["ports"][0]["name"] for probe in probes.values())
    # No restart repairs a node, the API or the database, which /readyz speaks of.
    assert probes["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert probes["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_prometheus_finds_every_pod_under_the_job_of_the_rules() -> None:
    (service,), (monitor,), (network,) = map(of_kind, ("Service", "ServiceMonitor", "NetworkPolicy"))
    label = {"app.kubernetes.io/name": "avs-watcher"}
    selectors = (monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"], service["spec"]["selector"])
    assert [*selectors, network["spec"]["podSelector"]["matchLabels"]] == [label] * 4
    assert all(label.items() <= pod["metadata"]["labels"].items() for pod in PODS.values())
    job = service["metadata"]["labels"][monitor["spec"]["jobLabel"]]
    assert f'job="{job}"' in (ROOT / "monitoring" / "alerts.yml").read_text()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] in _PROBES
    assert endpoint["port"] == service["spec"]["ports"][0]["name"] == container("watch")["ports"][0]["name"]
    # What a pod says that is not ready is what an alert needs.
    assert service["spec"]["publishNotReadyAddresses"] is True
