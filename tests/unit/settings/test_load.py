"""What settings accept, where they come from, and what is said when they are wrong."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from watcher.errors import FixConfiguration
from watcher.settings.load import load
from watcher.settings.model import Settings
from watcher.settings.names import credential_name, env_name
from watcher.settings.problems import FIELDS, is_private
from watcher.settings.template import render

CHECKSUMMED = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
SMALLEST = f"""
[chain]
rpc_urls = ["http://127.0.0.1:8545", "ws://127.0.0.1:8545"]
chain_id = 31337
[task_manager]
address = "{CHECKSUMMED}"
start_block = 0
[hook]
target = "squaring:respond"
[operator]
url = "http://127.0.0.1:8902"
"""
PASSWORD = {"WATCHER_OPERATOR__PASSWORD": "hunter2222"}

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(text: str | bytes) -> Path:
        path = tmp_path / "watcher.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


def refused(
    path: Path | None, environ: Mapping[str, str] = PASSWORD, overrides: Mapping[str, Any] | None = None
) -> list[str]:
    with pytest.raises(FixConfiguration) as caught:
        load(path, overrides or {}, environ)
    assert caught.value.exit_code == 78
    assert all("\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


def test_the_smallest_file_gives_the_documented_defaults(write: Write) -> None:
    settings = load(write(SMALLEST), {}, PASSWORD)
    assert settings.chain.http_urls == ("http://127.0.0.1:8545",)
    assert settings.chain.ws_urls == ("ws://127.0.0.1:8545",)
    assert (settings.chain.confirmations, settings.chain.finality) == (2, "finalized")
    assert settings.task_manager.address == CHECKSUMMED.lower()
    assert settings.task_manager.address_bytes == bytes.fromhex(CHECKSUMMED[2:])
    assert (settings.task_manager.start_block, settings.task_manager.convention) == (0, "wizard")
    assert (settings.hook.app_dir, settings.hook.timeout_s, settings.hook.workers) == (".", 30, 2)
    operator = settings.operator
    assert (operator.api, operator.method, operator.username) == ("proxy", "", "admin")
    assert (operator.concurrency, operator.timeout_s) == (32, 60)
    assert operator.password is not None
    assert operator.password.get_secret_value() == "hunter2222"
    assert settings.ledger.url == "sqlite:///watcher.db"
    assert settings.http.address == ("127.0.0.1", 9010)
    assert type(settings) is Settings


def test_each_source_yields_to_the_one_above_it(write: Write, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    path = write(SMALLEST.replace("[task", "confirmations = 3\n[task"))
    environ = {**PASSWORD, "CREDENTIALS_DIRECTORY": str(credentials)}
    assert load(path, {}, environ).chain.confirmations == 3
    (credentials / "chain__confirmations").write_text("4\n")
    assert load(path, {}, environ).chain.confirmations == 4
    environ["WATCHER_CHAIN__CONFIRMATIONS"] = "5"
    assert load(path, {"chain.confirmations": None}, environ).chain.confirmations == 5
    assert load(path, {"chain.confirmations": 6}, environ).chain.confirmations == 6
    # The rest of the table still comes from below.
    assert load(path, {"chain.confirmations": 6}, environ).chain.chain_id == 31337


def test_without_a_file_the_environment_is_enough() -> None:
    environ = {
        **PASSWORD,
        "WATCHER_CHAIN__RPC_URLS": "https://a.example/k1, https://b.example/k2",
        "WATCHER_CHAIN__CHAIN_ID": "1",
        "WATCHER_CHAIN__POLL_INTERVAL_S": "0.5",
        "WATCHER_CHAIN__FINALITY": "12",
        "WATCHER_TASK_MANAGER__ADDRESS": CHECKSUMMED,
        "WATCHER_TASK_MANAGER__START_BLOCK": "latest",
        "WATCHER_HOOK__TARGET": "squaring:respond",
        "WATCHER_OPERATOR__URL": "http://api.example",
        "WATCHER_OPERATOR__ALLOW_PLAIN_HTTP": "true",
        "WATCHER_LOG__LEVEL": "DEBUG",
        "WATCHER_ANVIL": "/usr/bin/anvil",
        "WATCHER_CONFIG": "elsewhere.toml",
    }
    settings = load(None, {}, environ)
    assert settings.chain.rpc_urls == ("https://a.example/k1", "https://b.example/k2")
    assert (settings.chain.poll_interval_s, settings.chain.finality) == (0.5, 12)
    assert settings.task_manager.start_block == "latest"
    assert settings.log.level == "debug"


@pytest.mark.parametrize(
    "text", ['["https://a.example/k1","ws://b.example"]', "https://a.example/k1\nws://b.example\n"]
)
def test_node_urls_come_from_a_credential_file(write: Write, tmp_path: Path, text: str) -> None:
    (tmp_path / "chain__rpc_urls").write_text(text)
    (tmp_path / "operator__password").write_text("from file\r\n")
    (tmp_path / "tls.key").write_text("another service's")
    settings = load(write(SMALLEST), {}, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert settings.chain.rpc_urls == ("https://a.example/k1", "ws://b.example")
    assert settings.operator.password is not None
    assert settings.operator.password.get_secret_value() == "from file"


def test_the_ledger_lies_in_the_state_directory_unless_told_otherwise(write: Write) -> None:
    environ = {**PASSWORD, "STATE_DIRECTORY": "/var/lib/avs-watcher/one"}
    assert load(write(SMALLEST), {}, environ).ledger.url == "sqlite:////var/lib/avs-watcher/one/watcher.db"
    named = write(SMALLEST + '[ledger]\nurl = "sqlite:///other.db"\n')
    assert load(named, {}, environ).ledger.url == "sqlite:///other.db"


def test_observing_needs_no_hook_no_url_and_no_password(write: Write) -> None:
    text = SMALLEST[: SMALLEST.index("[hook]")] + '[operator]\napi = "none"\n'
    assert load(write(text), {}, {}).operator.password is None


_SHARED = '[ledger]\nurl = "postgresql://localhost/watcher"\n'


def test_a_process_needs_only_what_its_roles_use(write: Write) -> None:
    bare = SMALLEST[: SMALLEST.index("[hook]")] + _SHARED
    for roles in ("watch", "confirm", "watch, confirm"):
        settings = load(write(bare), {"daemon.roles": roles}, {})
        assert (settings.runs_hook, settings.sends) == (False, False)
    hook = bare + '[hook]\ntarget = "squaring:respond"\n'
    assert load(write(hook), {"daemon.roles": "respond"}, {}).operator.password is None
    api = bare + '[operator]\nurl = "http://127.0.0.1:8902"\n'
    assert load(write(api), {"daemon.roles": "submit"}, PASSWORD).sends


def test_each_role_still_requires_what_it_uses(write: Write) -> None:
    path = write(SMALLEST[: SMALLEST.index("[hook]")] + _SHARED)
    assert refused(path, {}, {"daemon.roles": "respond"}) == [
        'hook.target: is required (or set operator.api = "none" to observe only)'
    ]
    problems = refused(path, {}, {"daemon.roles": "submit"})
    assert [problem.partition(":")[0] for problem in problems] == ["operator.url", "operator.password"]


def test_roles_come_from_the_environment_too(write: Write) -> None:
    settings = load(write(SMALLEST + _SHARED), {}, {**PASSWORD, "WATCHER_DAEMON__ROLES": "submit,confirm"})
    assert settings.daemon.roles == ("submit", "confirm")


def test_all_problems_of_all_sources_come_at_once(write: Write, tmp_path: Path) -> None:
    (tmp_path / "operator_password").write_text("x")
    (tmp_path / "chain__chain_id").write_text("")
    path = write(
        """
chain_id = 5
[chain]
rpc_urls = ["http://127.0.0.1:8545"]
confirmatons = 1
[hooks]
target = "a:b"
[operator]
password = "x"
"""
    )
    environ = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "WATCHER_OPERATOR_PASSWORD": "1",
        "WATCHER_HOOKS__TARGET": "1",
        "WATCHER_CHAIN__CONFIRMATION": "1",
        "WATCHER_HOOK__WORKERS": "two",
    }
    problems = refused(path, environ, {"log.level": "loud", "lag.level": "info"})
    expected = [
        "lag.level: is not a known setting",
        "WATCHER_OPERATOR_PASSWORD: is not a known setting in the environment; did you mean WATCHER_OPERATOR__PASSW",
        "WATCHER_HOOKS__TARGET: is not a known setting in the environment; did you mean WATCHER_HOOK__TARGET?",
        "WATCHER_CHAIN__CONFIRMATION: is not a known setting in the environment; did you mean WATCHER_CHAIN__CONF",
        "credential file operator_password: is not a known setting; did you mean operator__password?",
        "credential file chain__chain_id: is empty",
        "operator.password: a secret must not stand in the configuration file",
        "chain.confirmatons: is not a known setting; did you mean chain.confirmations?",
        "chain_id: is not a known table; did you mean chain.chain_id?",
        "hooks: is not a known table; did you mean [hook]?",
        "task_manager.address: is required",
        "task_manager.start_block: is required",
        "operator.url: is required",
        "hook.target: is required",
        'hook.workers: must be a whole number (got "two", from WATCHER_HOOK__WORKERS)',
        'log.level: must be "trace", "debug", "info", "warning" or "error" (got "loud", from the command line)',
    ]
    for line in expected:
        assert any(problem.startswith(line) for problem in problems), line


def test_an_unusable_credential_is_one_problem_whatever_the_setting(write: Write, tmp_path: Path) -> None:
    for key in FIELDS:
        path = tmp_path / credential_name(key)
        for content, message in (
            (b"\n", "is empty"),
            (b"\xff", "is not UTF-8 text"),
            (b"x" * 70_000, "is longer than"),
        ):
            path.write_bytes(content)
            (problem,) = refused(write(SMALLEST), {**PASSWORD, "CREDENTIALS_DIRECTORY": str(tmp_path)})
            assert problem.startswith(f"credential file {path.name}: {message}")
        path.unlink()


def test_a_credentials_folder_that_is_not_there_is_told_and_needed_by_none(write: Write, tmp_path: Path) -> None:
    for folder in (str(tmp_path / "none"), "a\0b"):
        warnings: list[str] = []
        load(write(SMALLEST), environ={**PASSWORD, "CREDENTIALS_DIRECTORY": folder}, warn=warnings.append)
        missing, why = refused(write(SMALLEST), {"CREDENTIALS_DIRECTORY": folder})
        assert missing.startswith("operator.password: is required")
        assert warnings == [why]
        assert why.startswith("$CREDENTIALS_DIRECTORY: cannot be read")


@pytest.mark.parametrize(
    "name",
    ["WATCHER_HOME", "WATCHER_", "WATCHER__", "WATCHER_LOGS", "WATCHER_DB__HOST", "WATCHER_NAMESPACE", "WATCHERS__X"],
)
def test_variable_of_another_program_is_left_alone(name: str, write: Write) -> None:
    warnings: list[str] = []
    assert load(write(SMALLEST), environ={**PASSWORD, name: "x"}, warn=warnings.append)
    assert warnings == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WATCHER_CHAIN__RPC_URL", "WATCHER_CHAIN__RPC_URLS"),
        ("WATCHER_CHIAN__RPC_URLS", "WATCHER_CHAIN__RPC_URLS"),
        ("WATCHER_chain__confirmations", "WATCHER_CHAIN__CONFIRMATIONS"),
        ("WATCHER_OPERATOR__DIRECT_URL", "WATCHER_OPERATOR__DIRECT__URL"),
        ("WATCHER_LEDGERS__URL", "WATCHER_LEDGER__URL"),
    ],
)
def test_typo_in_a_variable_of_ours_stops_the_start(name: str, meant: str, write: Write) -> None:
    (problem,) = refused(write(SMALLEST), {**PASSWORD, name: "1"})
    assert problem == f"{name}: is not a known setting in the environment; did you mean {meant}?"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WATCHER_LEDGER_URL", "WATCHER_LEDGER__URL"),
        ("WATCHER_HOOK_TARGET", "WATCHER_HOOK__TARGET"),
        ("WATCHER_OPERATOR_PASSWORD", "WATCHER_OPERATOR__PASSWORD"),
    ],
)
def test_variable_near_to_ours_is_one_warning(name: str, meant: str, write: Write) -> None:
    warnings: list[str] = []
    assert load(write(SMALLEST), environ={**PASSWORD, name: "hunter2"}, warn=warnings.append)
    assert warnings == [f"{name}: is not a known setting in the environment; did you mean {meant}?"]


def test_credentials_of_other_services_are_left_alone(write: Write, tmp_path: Path) -> None:
    for name in ("tls.key", "db__password", "operator", "alerts", ".hidden", "a b"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "operator_password").write_text("x")
    warnings: list[str] = []
    assert load(write(SMALLEST), environ={**PASSWORD, "CREDENTIALS_DIRECTORY": str(tmp_path)}, warn=warnings.append)
    assert warnings == ["credential file operator_password: is not a known setting; did you mean operator__password?"]


def test_credential_that_is_a_folder_is_told(write: Write, tmp_path: Path) -> None:
    (tmp_path / "operator__password").mkdir()
    (problem,) = refused(write(SMALLEST), {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert problem == "credential file operator__password: is a folder, not a file"


def test_value_in_place_of_a_table_is_reported_when_environment_fills_it(write: Write) -> None:
    path = write('log = "https://u:secretkey@x"\n' + SMALLEST)
    assert refused(path, {**PASSWORD, "WATCHER_LOG__LEVEL": "info"}) == ["log: must be a table, [log]"]


def test_the_password_must_come_from_somewhere(write: Write) -> None:
    assert refused(write(SMALLEST), {}) == [
        "operator.password: is required: set WATCHER_OPERATOR__PASSWORD or the credential file operator__password"
    ]
    assert refused(write(SMALLEST), {"WATCHER_OPERATOR__PASSWORD": ""}) == [
        "operator.password: is empty (from WATCHER_OPERATOR__PASSWORD)"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[chain\nx = 1", "line 1, column 7: not valid TOML"),
        ("[chain]\nchain_id = \n", "line 2, column 12: not valid TOML"),
        ("[chain]\nchain_id = 1\nchain_id = 2", "not valid TOML"),
        (b"[chain]\nx = \xff\xfe", "not UTF-8 text (line 2)"),
        ("[chain]".encode("utf-16"), "not UTF-8 text (line 1)"),
        ("a = " + "[" * 200_000, "nested too deeply"),  # a library raises the limit of recursion
        ("a = " + "9" * 5000, "far too long"),
        (b"#" * (1 << 20) + b"\n", "is longer than"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_the_place(write: Write, content: str | bytes, message: str) -> None:
    path = write(content)
    (problem,) = refused(path)
    assert problem.startswith(f"{path}: ")
    assert message in problem


def test_a_byte_order_mark_does_no_harm(write: Write) -> None:
    assert load(write(b"\xef\xbb\xbf" + SMALLEST.encode()), {}, PASSWORD).chain.chain_id == 31337


def test_what_is_no_readable_file_is_told_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "does not exist" in refused(tmp_path / "none.toml")[0]
    assert "watcher init" in refused(tmp_path / "none.toml")[0]
    assert "is a folder" in refused(tmp_path)[0]
    assert "not a regular file" in refused(tmp_path / "pipe")[0]
    assert "is not a path" in refused(tmp_path / "a\0b")[0]
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read" in refused(tmp_path / "loop")[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_told(write: Write) -> None:
    path = write(SMALLEST)
    path.chmod(0)
    assert "may not be read" in refused(path)[0]


def test_settings_show_no_secret_and_cannot_be_changed(write: Write) -> None:
    text = SMALLEST.replace("http://127.0.0.1:8545", "https://u:pw@h.example/KEY123")
    settings = load(write(text), {}, {**PASSWORD, "WATCHER_LEDGER__URL": "postgresql://u:dbpass@h/db"})
    for printed in (repr(settings), str(settings), f"{settings.chain} {settings.operator} {settings.ledger}"):
        assert not any(secret in printed for secret in ("hunter2222", "KEY123", "pw@", "dbpass"))
    assert set(settings.secrets()) >= {"hunter2222", "https://u:pw@h.example/KEY123", "postgresql://u:dbpass@h/db"}
    with pytest.raises(ValueError, match="frozen"):
        settings.chain.chain_id = 2


_SECRET = (
    *(("operator", "password"), ("operator.direct", "password")),
    *(("alerts", "urls"), ("audit", "webhook"), ("http", "token")),
)


def test_the_written_file_is_complete_and_loads_once_it_is_filled_in(write: Write) -> None:
    filled = render({"task_manager.address": CHECKSUMMED, "chain.chain_id": 17000})
    settings = load(write(filled), {}, PASSWORD)
    assert settings.chain.chain_id == 17000
    for section, name in FIELDS:
        if (section, name) not in _SECRET:
            assert f"\n{name} = " in filled or f"\n# {name} = " in filled, name
    # Every default shown behind a # is the default: switched on, nothing changes.
    switched_on = re.sub(r"(?m)^# (\w+ = )", r"\1", filled)
    assert switched_on != filled
    assert load(write(switched_on), {}, PASSWORD) == settings


def test_the_written_file_does_not_watch_a_made_up_contract(write: Write) -> None:
    assert [problem.split(":")[0] for problem in refused(write(render()))] == ["task_manager.address"]


def test_names_in_environment_and_credentials_are_those_of_the_keys() -> None:
    assert env_name(("operator", "password")) == "WATCHER_OPERATOR__PASSWORD"
    assert credential_name(("operator", "password")) == "operator__password"
    private = {f"{section}.{name}" for (section, name), field in FIELDS.items() if is_private(field)}
    assert private == {
        *(
            "chain.rpc_urls",
            "operator.url",
            "operator.password",
            "operator.direct.url",
            "operator.direct.password",
            "ledger.url",
            "hook.target",
            "hook.shadow.target",
            "alerts.urls",
            "audit.webhook",
            "http.token",
        ),
    }


def test_loading_settings_imports_nothing_slow(write: Write) -> None:
    path = write(SMALLEST)
    script = (
        "import sys; from pathlib import Path; from watcher.settings.load import load;"
        f"load(Path({str(path)!r}), {{}}, {PASSWORD!r});"
        "slow = ('web3', 'eth_utils', 'eth_abi', 'aiohttp', 'httpx', 'sqlalchemy', 'rich');"
        "print([name for name in slow if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
