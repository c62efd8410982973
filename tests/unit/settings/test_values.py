"""A wrong value of every key gives exactly one line that names the key and says what to write."""

import json
from pathlib import Path
from typing import Any

import pytest

from watcher.errors import FixConfiguration
from watcher.settings import checks
from watcher.settings.load import load
from watcher.settings.problems import FIELDS

CHECKSUMMED = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
SMALLEST: dict[str, dict[str, Any]] = {
    "chain": {"rpc_urls": ["http://127.0.0.1:8545"], "chain_id": 31337},
    "task_manager": {"address": CHECKSUMMED, "start_block": 0},
    "hook": {"target": "squaring:respond"},
    "operator": {"url": "http://127.0.0.1:8902"},
}

# key, TOML value, what the one line must say
WRONG: list[tuple[str, str, str]] = [
    ("chain.rpc_urls", "[]", "at least one http"),
    ("chain.rpc_urls", '["ws://a.example"]', "at least one http"),
    ("chain.rpc_urls", '["ftp://a.example"]', "URL 1 must begin with http://"),
    ("chain.rpc_urls", '["http://a.example", "http://b c"]', "URL 2 is not a valid URL"),
    ("chain.rpc_urls", '["http://a.example:99999"]', "URL 1 is not a valid URL"),
    ("chain.rpc_urls", '["http://"]', "names no host"),
    ("chain.rpc_urls", '"http://a.example"', "must be a list"),
    ("chain.rpc_urls", '["http://a.example", "http://a.example"]', "twice"),
    ("chain.chain_id", "0", "must be 1 or more (got 0)"),
    ("chain.chain_id", "true", "must be a whole number (got true)"),
    ("chain.chain_id", '"1"', 'must be a whole number (got "1")'),
    ("chain.chain_id", "1.0", "must be a whole number (got 1.0)"),
    ("chain.confirmations", "-1", "must be 0 or more (got -1)"),
    ("chain.finality", '"finalised"', 'must be "finalized", "safe" or a depth'),
    ("chain.finality", "-1", "(got -1)"),
    ("chain.finality", "true", "must be"),
    ("chain.contract_blocks", '"l1"', "must be"),
    ("chain.quorum", "2", "must not be more than the http(s) URLs"),
    ("chain.poll_interval_s", "0", "must be more than 0"),
    ("chain.poll_interval_s", "nan", "must be a finite number"),
    ("chain.request_timeout_s", '"30s"', 'must be a number (got "30s")'),
    ("chain.body_limit_bytes", "1", "must be 65536 or more"),
    ("chain.max_span_blocks", "0", "must be 1 or more"),
    ("task_manager.address", '"0x12"', "40 hex digits"),
    ("task_manager.address", '"0x' + "0" * 40 + '"', "not zero"),
    ("task_manager.address", f'"{CHECKSUMMED.replace("aAe", "aae")}"', "checksum"),
    ("task_manager.start_block", '"earliest"', 'block number (0 or more) or "latest"'),
    ("task_manager.start_block", "-1", "block number"),
    ("task_manager.message_limit_bytes", "10", "must be 1024 or more"),
    ("task_manager.convention", '"wizzard"', "wizard-bridge"),
    ("task_manager.convention_file", '"/nowhere.toml"', "must be a file that is there"),
    ("task_manager.dry_run", '"yes"', "must be true or false"),
    ("hook.target", '"no spaces:here please"', "module:attribute"),
    ("hook.target", '""', "is required"),
    ("hook.target", '"squaring:make(1)"', "module:attribute"),
    ("hook.target", '"exec:"', "must name a program"),
    ("hook.target", '"exec:./hook.sh \'open"', "quotation mark"),
    ("hook.target", '"https://user:canary@:8000/x"', "URL 1 names no host"),
    ("hook.target", '"http://host:0/"', "URL 1 is not a valid URL"),
    ("hook.target", '"http://a/, ftp://b/"', "URL 2 must begin with http:// or https://"),
    ("hook.target", '"http://a/ http://a/"', "the same URL twice"),
    ("hook.target", '"http://a/#b"', "fragment"),
    ("hook.target", '"grpc://host"', "must be grpc://HOST:PORT"),
    ("hook.target", '"grpc://user:canary@host:8080"', "must be grpc://HOST:PORT"),
    ("hook.app_dir", '""', "path of a folder"),
    ("hook.timeout_s", "0", "must be more than 0"),
    ("hook.workers", "0", "must be 1 or more"),
    ("hook.max_attempts", "0", "must be 1 or more"),
    ("hook.retry_base_s", "-0.5", "must be more than 0"),
    ("hook.answer_limit_bytes", "0", "must be 1 or more"),
    ("hook.tasks_per_worker", "-1", "must be 0 or more"),
    ("operator.api", '"prox"', 'did you mean "proxy"?'),
    ("operator.api", '"operator"', "operator.avs_name: is required"),
    ("operator.allow_plain_http", "1", "must be true or false (got 1)"),
    ("operator.ca_file", '"/nowhere.pem"', "must be a file that is there"),
    ("operator.url", '""', "is required"),
    ("operator.url", '"http://api.example"', "must be https://"),
    ("operator.url", '"https://u:p@api.example"', "must not hold a user or password"),
    ("operator.url", '"wss://api.example"', "must begin with http:// or https://"),
    ("operator.method", '"respond(uint32)"', "name of a contract function"),
    ("operator.avs_name", "7", "must be text (got 7)"),
    ("operator.username", '"a:b"', "colon"),
    ("operator.username", '""', "must not be empty"),
    ("operator.password", '"in the file"', "must not stand in the configuration file"),
    ("operator.concurrency", "0", "must be 1 or more"),
    ("operator.timeout_s", "0", "must be more than 0"),
    ("operator.retry_base_s", "0", "must be more than 0"),
    ("operator.retry_max_s", "1", "must not be less than operator.retry_base_s"),
    ("operator.resolve_after_blocks", "0", "must be 1 or more"),
    ("operator.body_limit_bytes", "5", "must be 1024 or more"),
    ("operator.params_style", '"list"', 'must be "array" or "object" (got "list")'),
    ("operator.expected_quorum_numbers", "[256]", "whole numbers from 0 to 255"),
    ("operator.expected_quorum_numbers", "[1, 1]", "names a quorum twice"),
    ("operator.expected_threshold", "101", "must be 100 or less"),
    ("operator.failover", "true", "needs operator.direct.url"),
    ("operator.direct.url", '"http://api.example"', "must be https://"),
    ("operator.direct.url", '"https://api.example"', "operator.direct.avs_name: is required"),
    ("operator.direct.allow_plain_http", "1", "must be true or false (got 1)"),
    ("operator.direct.ca_file", '"/nowhere.pem"', "must be a file that is there"),
    ("operator.direct.avs_name", "7", "must be text (got 7)"),
    ("operator.direct.username", '"a:b"', "colon"),
    ("operator.direct.password", '"in the file"', "must not stand in the configuration file"),
    ("ledger.schema", '"Public"', "must be a letter, then letters, digits and _"),
    ("ledger.url", '"sqlite://"', "must name a file"),
    ("ledger.url", '"sqlite:///:memory:"', "in memory"),
    ("ledger.url", '"mysql://a/b"', "must be sqlite:///path or postgresql://"),
    ("http.listen", '"9010"', "host:port"),
    ("http.listen", '"127.0.0.1:99999"', "host:port"),
    ("http.dashboard", "1", "must be true or false (got 1)"),
    ("http.token", '"in the file, long enough"', "must not stand in the configuration file"),
    ("http.protect", '"none"', 'must be "auto" or "all"'),
    ("http.protect", '"all"', "needs a token"),
    ("http.public_url", '"https://watcher.example"', "needs a token"),
    ("http.public_url", '"watcher.example"', "must begin with https:// or http://"),
    ("http.public_url", '"https://watcher.example/pages"', "must be scheme and name alone"),
    ("http.public_url", '"https://a@watcher.example"', "must be scheme and name alone"),
    ("log.level", '"loud"', 'must be "trace"'),
    ("log.format", '"xml"', 'must be "auto", "text" or "json"'),
    ("alerts.urls", '["json://127.0.0.1"]', "must not stand in the configuration file"),
    ("audit.webhook", '"https://hooks.example/x"', "must not stand in the configuration file"),
    ("daemon.roles", '["wach"]', 'must be "watch", "respond", "submit" or "confirm"'),
    ("daemon.roles", "[]", "must name at least one role"),
    ("daemon.roles", '["watch", "watch"]', "names a role twice"),
    ("daemon.roles", '["watch"]', "must name all roles"),
    ("audit.alerts", "1", "must be true or false (got 1)"),
    ("audit.roots_file", '"roots/"', "must be the path of a file"),
    ("audit.roots_file", '"./watcher.db"', "must not be a file of the ledger"),
    ("audit.roots_file", '"watcher.db-wal"', "must not be a file of the ledger"),
    ("alerts.deadline_blocks", "-1", "must be 0 or more"),
    ("alerts.interval_s", "0", "must be more than 0"),
    ("alerts.hourly_limit", "0", "must be 1 or more"),
    ("alerts.repeat_s", "-1", "must be 0 or more"),
    ("alerts.deadline_s", "-1", "must be 0 or more"),
    ("hook.memory_mb", "-1", "must be 0 or more"),
    ("hook.message", '"(unit256,address)"', "no ABI type (character 2); did you mean uint256?"),
    ("hook.response", '"(uint256"', "a comma or ) is missing before the end (character 9)"),
    ("hook.process_limit", "-1", "must be 0 or more"),
    ("hook.run_twice", "1", "must be true or false (got 1)"),
    ("hook.shadow.target", '"no target!"', "must be module:attribute"),
    ("hook.shadow.app_dir", "7", "must be text (got 7)"),
    ("hook.shadow.timeout_s", "0", "must be more than 0"),
    ("hook.shadow.workers", "65", "must be 64 or less"),
    ("hook.shadow.memory_mb", "-1", "must be 0 or more"),
    ("hook.landlock", '"always"', 'must be "auto", "off" or "required"'),
    ("alerts.timeout_s", "301", "must be 300 or less"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_a_wrong_value_gives_one_line_that_names_the_key(tmp_path: Path, key: str, value: str, message: str) -> None:
    section, _, name = key.rpartition(".")
    lines = []
    for table, known in {section: {}, **SMALLEST}.items():
        lines.append(f"[{table}]")
        lines += [f"{k} = {json.dumps(v)}" for k, v in known.items() if (table, k) != (section, name)]
        if table == section:
            lines.append(f"{name} = {value}")
    path = tmp_path / "watcher.toml"
    path.write_text("\n".join(lines))
    with pytest.raises(FixConfiguration) as caught:
        load(path, {}, {"WATCHER_OPERATOR__PASSWORD": "hunter2222"})
    (problem,) = caught.value.problems
    assert message in problem
    assert problem.startswith(f"{section}.")


def test_every_key_has_a_wrong_value_that_is_tested() -> None:
    assert {f"{section}.{name}" for section, name in FIELDS} == {key for key, _, _ in WRONG}


ADDRESSES = {
    # The vectors of EIP-55.
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed": True,
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359": True,
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB": True,
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb": True,
    "0x5AAEB6053F3E94C9B9A09F33669435E7EF1BEAED": True,
    "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed": True,
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD": False,
    "0xFB6916095ca1df60bB79Ce92cE3Ea74c37c5d359": False,
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe": False,
    "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed": False,
}


@pytest.mark.parametrize(("text", "good"), ADDRESSES.items())
def test_an_address_is_taken_when_its_checksum_is_right_or_absent(text: str, good: bool) -> None:
    if good:
        assert checks.address(text) == text.lower()
    else:
        with pytest.raises(ValueError, match=r"checksum|hex digits"):
            checks.address(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9010", ("::1", 9010)), ("localhost:80", ("localhost", 80))],
)
def test_a_place_to_listen_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert checks.host_port(text) == address


@pytest.mark.parametrize("text", ["::1:9010", ":9010", "a b:1", "h:", "h:-1", "h:٣", "[::1", "u@h:1", "h:1\n"])
def test_what_is_no_place_to_listen_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        checks.host_port(text)


@pytest.mark.parametrize("url", ["http://localhost", "http://127.9.9.9:1/x", "http://[::1]:1", "https://a.example"])
def test_the_password_may_go_in_clear_to_this_machine_only(url: str) -> None:
    assert checks.operator_url(url, plain_http=False) == url
    for elsewhere in ("http://10.0.0.1", "http://localhost.example", "http://127.0.0.1.example"):
        assert checks.operator_url(elsewhere, plain_http=True) == elsewhere
        with pytest.raises(ValueError, match="https"):
            checks.operator_url(elsewhere, plain_http=False)
