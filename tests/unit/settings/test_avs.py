"""Several AVSs in one configuration: where each one's values come from, and how its problems are reported."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from watcher.errors import FixConfiguration, FixUsage
from watcher.settings.avs import Avs, problems_of
from watcher.settings.load import load, load_all

FIRST, SECOND = "0x" + "11" * 20, "0x" + "22" * 20
COMMON = """
[chain]
rpc_urls = ["http://127.0.0.1:8545"]
chain_id = 31337
[hook]
target = "squaring:respond"
[operator]
url = "http://127.0.0.1:8902"
"""
TWO = f"""
{COMMON}
[[avs]]
name = "alpha"
[avs.task_manager]
address = "{FIRST}"
start_block = 0
[[avs]]
name = "beta-2"
[avs.task_manager]
address = "{SECOND}"
start_block = "latest"
[avs.chain]
confirmations = 7
[avs.operator]
api = "none"
"""
PASSWORD = {"WATCHER_OPERATOR__PASSWORD": "hunter2222"}


def _load(tmp_path: Path, text: str, environ: Mapping[str, str] = PASSWORD) -> dict[str, Avs]:
    (tmp_path / "watcher.toml").write_text(dedent(text))
    return {avs.name: avs for avs in load_all(tmp_path / "watcher.toml", {}, environ)}


def test_each_avs_has_its_own_values_before_the_common_ones(tmp_path: Path) -> None:
    avss = _load(tmp_path, TWO, PASSWORD | {"WATCHER_CHAIN__QUORUM": "1", "WATCHER_BETA_2__CHAIN__CONFIRMATIONS": "9"})
    alpha, beta = avss["alpha"].usable(), avss["beta-2"].usable()
    assert (alpha.chain.confirmations, beta.chain.confirmations) == (2, 9)
    assert (alpha.task_manager.address, beta.task_manager.address) == (FIRST, SECOND)
    assert (alpha.operator.api, beta.operator.api) == ("proxy", "none")
    assert alpha.chain.rpc_urls == beta.chain.rpc_urls


def test_a_file_without_avs_tables_has_one_without_a_name(tmp_path: Path) -> None:
    avss = _load(tmp_path, COMMON + f'[task_manager]\naddress = "{FIRST}"\nstart_block = 0\n')
    assert list(avss) == [""]
    assert avss[""].usable().ledger.url == "sqlite:///watcher.db"


def test_own_values_come_before_the_common_environment(tmp_path: Path) -> None:
    """The environment of a container names the ledger of most; one AVS has another."""
    text = TWO + '[avs.ledger]\nurl = "sqlite:///other.db"\n'
    avss = _load(tmp_path, text, PASSWORD | {"WATCHER_LEDGER__URL": "sqlite:////data/watcher.db"})
    assert avss["alpha"].usable().ledger.url == "sqlite:////data/watcher-alpha.db"
    assert avss["beta-2"].usable().ledger.url == "sqlite:///other.db"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "sqlite:///watcher-beta-2.db"),
        ({"STATE_DIRECTORY": "/var/lib/watcher"}, "sqlite:////var/lib/watcher/watcher-beta-2.db"),
        ({"WATCHER_LEDGER__URL": "postgresql://h/db"}, "postgresql://h/db?schema=avs_beta_2"),
        (
            {"WATCHER_LEDGER__URL": "postgresql://h/db?sslmode=require"},
            "postgresql://h/db?sslmode=require&schema=avs_beta_2",
        ),
        (
            {"WATCHER_LEDGER__URL": "postgresql://h/db", "WATCHER_BETA_2__LEDGER__SCHEMA": "b"},
            "postgresql://h/db?schema=b",
        ),
        ({"WATCHER_BETA_2__LEDGER__URL": "postgresql://h/own"}, "postgresql://h/own"),
    ],
)
def test_each_avs_has_a_ledger_of_its_own(tmp_path: Path, environ: dict[str, str], url: str) -> None:
    assert _load(tmp_path, TWO, PASSWORD | environ)["beta-2"].usable().ledger.url == url


def test_published_roots_go_to_a_file_of_each_avs(tmp_path: Path) -> None:
    avss = _load(tmp_path, TWO, PASSWORD | {"WATCHER_AUDIT__ROOTS_FILE": str(tmp_path / "roots.jsonl")})
    assert avss["alpha"].usable().audit.roots_file == str(tmp_path / "roots-alpha.jsonl")


def test_a_credential_of_one_avs_is_not_that_of_another(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "operator__password").write_text("of-all-others")
    (folder / "alpha__operator__password").write_text("of-alpha-alone")
    text = TWO.replace('api = "none"', 'api = "proxy"')
    avss = _load(tmp_path, text, {"CREDENTIALS_DIRECTORY": str(folder)})
    passwords = {name: avs.usable().operator.password for name, avs in avss.items()}
    assert {name: each.get_secret_value() for name, each in passwords.items() if each} == {
        "alpha": "of-alpha-alone",
        "beta-2": "of-all-others",
    }


def test_a_wrong_avs_has_its_problems_and_the_others_their_settings(tmp_path: Path) -> None:
    environ = PASSWORD | {"WATCHER_ALPHA__CHAIN__CONFIRMATION": "1", "WATCHER_ALPHA__OPERATOR__CONCURRENCY": "0"}
    avss = _load(tmp_path, TWO, environ)
    assert avss["beta-2"].settings is not None
    lines = problems_of(list(avss.values()))
    assert all(line.startswith("alpha: ") for line in lines)
    assert len(lines) == 2
    assert "did you mean WATCHER_ALPHA__CHAIN__CONFIRMATIONS?" in lines[0]
    assert "operator.concurrency: must be 1 or more" in lines[1]


def test_problems_of_all_avss_are_told_once_and_without_a_name(tmp_path: Path) -> None:
    avss = _load(tmp_path, TWO.replace("chain_id = 31337", "chain_id = 0\nconfirmation = 2"))
    lines = problems_of(list(avss.values()))
    assert lines == [
        "chain.chain_id: must be 1 or more (got 0)",
        "chain.confirmation: is not a known setting; did you mean chain.confirmations?",
    ]


def test_two_avss_with_one_contract_are_refused(tmp_path: Path) -> None:
    avss = _load(tmp_path, TWO.replace(SECOND, FIRST))
    assert avss["alpha"].settings is not None
    assert problems_of(list(avss.values())) == [
        "beta-2: task_manager.address: alpha has this contract on this chain, too; both would answer its tasks"
    ]


def test_two_avss_with_one_ledger_file_are_refused(tmp_path: Path) -> None:
    environ = {f"WATCHER_{name}__LEDGER__URL": "sqlite:///one.db" for name in ("ALPHA", "BETA_2")}
    (line,) = problems_of(list(_load(tmp_path, TWO, PASSWORD | environ).values()))
    assert line == "beta-2: ledger.url: alpha has this file, too; give each AVS a ledger of its own"


def test_server_and_log_are_those_of_the_process(tmp_path: Path) -> None:
    (line,) = problems_of(list(_load(tmp_path, TWO + '[avs.http]\nlisten = ""\n').values()))
    assert line == "beta-2: http: is one for the whole process; put it into [http] for all AVSs"


def test_secrets_in_the_tables_of_an_avs_are_refused_unseen(tmp_path: Path) -> None:
    (line,) = problems_of(list(_load(tmp_path, TWO + 'password = "canary-17"\n').values()))
    assert "canary" not in line
    assert "use WATCHER_BETA_2__OPERATOR__PASSWORD or the credential file beta-2__operator__password" in line


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('[[avs]]\nname = "Alpha!"', "avs, Alpha!: must be a name"),
        ('[[avs]]\nname = "alpha"\n[[avs]]\nname = "alpha"', "avs, alpha: two AVSs have this name"),
        ('[[avs]]\nname = "chain"', "avs, chain: this name means something else"),
        ("[[avs]]\n", "avs, number 1: must be a name"),
        ('[avs]\nname = "alpha"', "avs: must be tables, one [[avs]] for each AVS"),
        ("avs = 7", "avs: must be tables, one [[avs]] for each AVS"),
    ],
)
def test_avss_that_cannot_be_told_apart_are_refused(tmp_path: Path, table: str, problem: str) -> None:
    text = f"{table}\n" if table == "avs = 7" else COMMON + table
    with pytest.raises(FixConfiguration) as caught:
        _load(tmp_path, text)
    assert caught.value.problems[0].startswith(problem)


def test_a_folder_has_a_file_for_each_avs(tmp_path: Path) -> None:
    (tmp_path / "watcher.toml").write_text(COMMON)
    (tmp_path / "alpha.toml").write_text(f'[task_manager]\naddress = "{FIRST}"\nstart_block = 0\n')
    (tmp_path / "broken.toml").write_text("[task_manager\n")
    alpha, broken = load_all(tmp_path, {}, PASSWORD)
    assert alpha.usable().task_manager.address == FIRST
    assert alpha.usable().ledger.url == "sqlite:///watcher-alpha.db"
    assert "broken.toml: line 1" in broken.problems[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FixConfiguration, match=r"holds no AVS"):
        load_all(tmp_path / "empty", {}, PASSWORD)


def test_a_command_for_one_names_it_where_there_are_several(tmp_path: Path) -> None:
    _load(tmp_path, TWO)
    config = tmp_path / "watcher.toml"
    assert load(config, {}, PASSWORD, avs="alpha").task_manager.address == FIRST
    with pytest.raises(FixUsage, match=r"name one of alpha, beta-2"):
        load(config, {}, PASSWORD)
    with pytest.raises(FixUsage, match=r"no AVS alpah; did you mean alpha\?"):
        load(config, {}, PASSWORD, avs="alpah")
