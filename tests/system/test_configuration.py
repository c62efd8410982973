"""Wrong settings and a world that does not fit them: words on stderr, an exit code that tells, and nothing else.

The tables go through the command line inside this process, to be quick; a few go through the real command.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import annotated_types
import pytest
import pytest_asyncio
from aiohttp import web
from loguru import logger

from tests.system.daemon_rig import Rig, running_rig
from watcher.cli.main import run
from watcher.settings.names import env_name
from watcher.settings.problems import FIELDS, SECTIONS

SECRET = "cAnArY0123456789"
PASSWORD = {"WATCHER_OPERATOR__PASSWORD": SECRET}
# Complete and valid; nothing listens there. Values are TOML.
GOOD: Mapping[str, Mapping[str, str]] = {
    "chain": {"rpc_urls": f'["http://user:{SECRET}@127.0.0.1:9/v2/{SECRET}?key={SECRET}"]', "chain_id": "31337"},
    "task_manager": {"address": f'"0x{"ab" * 20}"', "start_block": "0"},
    "hook": {"target": '"squaring:respond"'},
    "operator": {"url": f'"http://127.0.0.1:9/{SECRET}"'},
    "ledger": {"url": '"sqlite:///made.db"'},
    "http": {},
    "log": {},
}
NO_TEXT = ["7", "true", "1.5", "[1]", '["a", "b"]', "{ a = 1 }", "1979-05-27"]
NO_NUMBER = ['"7"', '""', "true", "[1]", "{ a = 1 }", "1979-05-27", "nan", "inf", "-inf", '"0x10"']
# No text of ours is any of these.
NO_WORD = ['"\\u0000"', '"\\u001b[31m"', '"a\\nb"', '"\\u202e"', f'"{"a" * 5000} {SECRET}"']
BY_HAND: Mapping[str, list[str]] = {
    "chain.rpc_urls": ["[]", '""', '"http://127.0.0.1:9"', "[7]", '["ws://127.0.0.1:9"]', f'["http://{SECRET}:x"]'],
    "chain.finality": ['""', '"latest"', "-1", "1.5", "true", "[1]", '"12"'],
    "task_manager.address": ['""', '"0x12"', f'"0x{"0" * 40}"', f'"{SECRET}"', f'"0x{"aB" * 20}"'],
    "task_manager.start_block": ['""', '"newest"', "-1", "1.5", "true", "99999999999999999999"],
    "task_manager.convention": ['""', '"incredible"'],
    "hook.target": ['""', '"a b"', '":respond"', '"squaring:"', '"exec:"', '"exec: \'"'],
    "hook.app_dir": ['""'],
    "operator.api": ['""', '"prox"', '"Proxy"'],
    "operator.url": ['""', '"here"', '"ftp://127.0.0.1"', f'"http://u:{SECRET}@127.0.0.1"', '"http://10.0.0.1"'],
    "operator.method": ['"respond(uint32)"', '"a b"'],
    "operator.username": ['""', '"a:b"'],
    "operator.expected_quorum_numbers": ['"0"', "[256]", "[-1]", "[1, 1]", '["0"]', "[true]"],
    "operator.direct.url": ['"here"', '"ftp://127.0.0.1"', f'"http://u:{SECRET}@127.0.0.1"', '"http://10.0.0.1"'],
    "operator.direct.username": ['"a:b"'],
    "operator.direct.password": ['""', f'"{SECRET}"', f'["{SECRET}"]', f'{{ a = "{SECRET}" }}', "7"],
    "operator.password": ['""', f'"{SECRET}"', f'["{SECRET}"]', f'{{ a = "{SECRET}" }}', "7"],
    "operator.params_style": ['""', '"list"'],
    "ledger.url": ['""', '"watcher.db"', '"sqlite://"', f'"mysql://u:{SECRET}@h/d"', f'"postgresql://u:{SECRET}@[h/d"'],
    "http.listen": ['"9010"', '"127.0.0.1:99999"', '"::1:9010"'],
    "log.level": ['""', '"loud"', '"inf"'],
    "log.format": ['""', '"xml"'],
}


def wrong_values(key: str) -> list[str]:
    """TOML values that the key must not take: other types, just out of its range, garbage, empty."""
    section, _, name = key.rpartition(".")
    field = FIELDS[section, name]
    kinds = (field.annotation, *get_args(field.annotation))
    values = list(BY_HAND.get(key, []))
    if field.annotation is bool:
        values += [*(value for value in NO_NUMBER if value != "true"), "1", "0", '"true"']
    elif kinds[0] in (int, float):
        values += NO_NUMBER
        values += ["1.5"] if kinds[0] is int else []
        for bound in field.metadata:
            if isinstance(bound, annotated_types.Gt):
                values += [str(bound.gt), "-1"]
            elif isinstance(bound, annotated_types.Ge):
                values += [f"{int(str(bound.ge)) - 1}"]
            elif isinstance(bound, annotated_types.Le):
                values += [f"{int(str(bound.le)) + 1}", "9" * 400]
    elif name != "password":
        right = "[1]" if key == "operator.expected_quorum_numbers" else "7" if int in kinds else None
        values += [value for value in NO_TEXT if value != right]
        values += NO_WORD if key not in ("chain.rpc_urls", "chain.finality", "task_manager.start_block") else []
    return values


def toml(changes: Mapping[str, str]) -> str:
    """The good settings with some keys changed or added."""
    tables = {section: dict(table) for section, table in GOOD.items()}
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        tables.setdefault(section, {})[name] = value
    return "\n".join(
        line
        for section, table in tables.items()
        for line in (f"[{section}]", *(f"{name} = {value}" for name, value in table.items()))
    )


@pytest.fixture(autouse=True)
def _clean_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a fresh shell, and nothing of the command's own set-up of logging is left behind."""
    for name in os.environ:
        if name.startswith("WATCHER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WATCHER_OPERATOR__PASSWORD", SECRET)
    monkeypatch.chdir(tmp_path)
    yield
    logger.remove()
    logger.configure(patcher=lambda _: None)


def refused(text: str, capsys: pytest.CaptureFixture[str], *command: str) -> list[str]:
    """The lines with which the command refuses these settings."""
    Path("watcher.toml").write_text(text)
    code = run(command or ["check"])
    captured = capsys.readouterr()
    assert_words(code, captured.out, captured.err, command)
    return captured.err.splitlines()


def assert_words(code: int, out: str, err: str, command: Sequence[str]) -> None:
    """Exit code 78; lines on stderr and nothing on stdout; no traceback, no secret, nothing a terminal would obey.

    Only `check --json` has something for machines to say, and it is the same.
    """
    assert code == 78, err
    lines = err.splitlines()
    findings = json.loads(out or "[]")
    messages = [line.removeprefix("watcher: ") for line in lines] if [*command] == ["check", "--json"] else []
    assert [finding["words"] for finding in findings] == messages
    assert {(finding["what"], finding["check"], finding["verdict"]) for finding in findings} <= {
        ("settings", "complete", "wrong")
    }
    assert lines
    assert all(line.startswith("watcher: ") and line.isprintable() and len(line) < 600 for line in lines), err
    assert "Traceback" not in err
    assert SECRET.lower() not in err.lower()


def test_the_settings_that_are_made_wrong_here_are_right_before(capsys: pytest.CaptureFixture[str]) -> None:
    Path("watcher.toml").write_text(toml({}))
    assert run(["tasks", "list"]) == 75
    assert "there is no ledger" in capsys.readouterr().err


@pytest.mark.parametrize("key", sorted(f"{section}.{name}" for section, name in FIELDS))
def test_each_wrong_value_of_a_key_gives_one_line_that_names_it(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = wrong_values(key)
    assert len(values) > 3
    for value in values:
        lines = refused(toml({key: value}), capsys)
        assert len(lines) == 1, (value, lines)
        assert re.match(rf"watcher: {re.escape(key)}: .*\w", lines[0]), (value, lines)


@pytest.mark.parametrize("key", sorted(f"{section}.{name}" for section, name in FIELDS))
def test_a_misspelled_key_is_named_with_the_one_that_was_meant(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = key[:-2] + key[-1] if len(key.rpartition(".")[2]) > 4 else f"{key}s"
    (line,) = refused(toml({wrong: f'"{SECRET}"'}), capsys)
    assert line == f"watcher: {wrong}: is not a known setting; did you mean {key}?"


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_a_misspelled_table_or_one_that_is_none_is_named(section: str, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refused(f"{toml({})}\n[{section}s]\nx = 1", capsys)
    assert line == f"watcher: {section}s: is not a known table; did you mean [{section}]?"
    rest = {name: table for name, table in GOOD.items() if name != section}
    tables = "\n".join(
        f"[{name}]\n" + "\n".join(f"{k} = {v}" for k, v in table.items()) for name, table in rest.items()
    )
    inner = "." in section
    lines = refused(toml({section: f'"{SECRET}"'}) if inner else f'{section} = "{SECRET}"\n{tables}', capsys)
    assert f"watcher: {section}: must be a table, [{section}]" in lines


@pytest.mark.parametrize("key", sorted(f"{section}.{name}" for section, name in FIELDS))
def test_wrong_value_from_the_environment_names_key_and_variable(
    key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    section, _, name = key.rpartition(".")
    monkeypatch.setenv(env_name((section, name)), "\x1b[31m\n")
    (line,) = refused(toml({}), capsys)
    assert line.startswith(f"watcher: {key}: ")
    assert env_name((section, name)) in line


def test_all_problems_are_listed_at_once_each_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    keys = sorted(f"{section}.{name}" for section, name in FIELDS)
    lines = refused(toml({key: wrong_values(key)[-1] for key in keys}), capsys)
    assert sorted(line.split(": ")[1] for line in lines) == keys


def test_what_is_required_is_named_key_by_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHER_OPERATOR__PASSWORD")
    lines = refused("", capsys)
    assert sorted(line.split(": ")[1] for line in lines) == [
        "chain.chain_id", "chain.rpc_urls", "hook.target", "operator.password", "operator.url",
        "task_manager.address", "task_manager.start_block",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"[chain\nx = '{SECRET}'", "not valid TOML"),
        (f'[operator]\nurl = "http://u:{SECRET}@h', "not valid TOML"),
        ("[chain]\nchain_id = 1\nchain_id = 2", "not valid TOML"),
        (f"[chain]\nchain_id = {'9' * 5000}", "far too long"),
    ],
)
def test_a_file_that_is_no_toml_is_named_with_the_place(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = refused(text, capsys)
    assert line.startswith("watcher: watcher.toml: ")
    assert message in line


COMMANDS = [
    "run",
    "check",
    "check --json",
    "prove",
    "tasks list --json",
    "tasks show 1",
    "tasks retry 1",
    "tasks skip 1",
]
COMMANDS += ["hook try 1", "db upgrade", "db check", "db backup copy.db"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_wrong_settings_in_the_same_words(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refused(toml({"chain.chain_id": f'"{SECRET}"', "ledger.url": f'"{SECRET}"'}), capsys, *command.split())
    assert [line.split(": ")[1] for line in lines] == ["chain.chain_id", "ledger.url"]
    assert list(tmp_path.iterdir()) == [tmp_path / "watcher.toml"]


@pytest.mark.parametrize("level", ["loud", "", SECRET])
def test_a_log_level_from_the_environment_that_is_none_is_refused(
    level: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHER_LOG", level)
    (line,) = refused(toml({}), capsys)
    assert "log level" in line


@pytest.mark.parametrize("arguments", [["run"], ["check", "--json"], ["tasks", "list", "--json"]], ids=" ".join)
def test_the_real_command_says_the_same_and_nothing_more(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "watcher.toml").write_text(toml({"chain.chain_id": f'"{SECRET}"', "ledger.url": f'"{SECRET}"'}))
    done = subprocess.run(
        [sys.executable, "-m", "watcher", *arguments],
        capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "WATCHER_LOG": "trace", **PASSWORD},
    )  # fmt: skip
    assert_words(done.returncode, done.stdout, done.stderr, arguments)
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["chain.chain_id", "ledger.url"]
    assert list(tmp_path.iterdir()) == [tmp_path / "watcher.toml"]


# -- settings that are valid and do not fit the world ------------------------------------------------------------------

in_the_world = pytest.mark.asyncio(loop_scope="module")
NOBODY = "0x" + "77" * 20
# Answers every call with nothing, as a contract with another ABI and a fallback function may; and one that reverts.
MUTE, DENYING = "0x00", "0x60006000fd"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with running_rig(tmp_path_factory.mktemp("world"), hook="square", password=SECRET) as running:
        (running.hook_folder / "broken.py").write_text("raise RuntimeError('no oracle configured')\n")
        (running.hook_folder / "leaving.py").write_text("import os\nos._exit(3)\n")
        (running.hook_folder / "empty.py").write_text("")
        yield running


@asynccontextmanager
async def answering(status: int, body: str, **headers: str) -> AsyncIterator[str]:
    """The address of a server that gives one and the same answer to everything."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@dataclass
class Checked:
    """What `watcher check --json` says: verdict and words by part, and the exit code."""

    code: int
    verdicts: Mapping[str, str]
    messages: Mapping[str, str]


class Checker:
    """Changes the rig's settings and checks them in this process, as the command would."""

    def __init__(self, rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._rig, self._capsys = rig, capsys
        for name, value in rig.environment.items():
            if name.startswith("WATCHER_"):
                monkeypatch.setenv(name, value)

    async def __call__(self, **changes: str) -> Checked:
        net = self._rig.net
        old = {"address": net.task_manager, "rpc": net.rpc_url, "api": net.api_url, "target": "rig_hook:square"}
        old |= {"chain_id": "chain_id = 31337", "ledger": f"sqlite:///{self._rig.ledger}", "username": "admin"}
        old |= {"app_dir": str(self._rig.hook_folder)}
        self._rig.write_config(target="rig_hook:square", changes={old[name]: new for name, new in changes.items()})
        code = await asyncio.to_thread(run, ["check", "--json", "--config", str(self._rig.config)])
        captured = self._capsys.readouterr()
        assert SECRET not in captured.out + captured.err
        assert "Traceback" not in captured.out + captured.err
        findings = json.loads(captured.out)
        verdicts: dict[str, str] = {}
        messages: dict[str, str] = {}
        for finding in findings:  # a part may have warnings besides, and other parts of it may be fine
            if finding["verdict"] == "wrong" or verdicts.get(finding["what"]) != "wrong":
                verdicts[finding["what"]] = finding["verdict"]
                if finding["verdict"] != "warning":
                    messages[finding["what"]] = finding["words"]
        return Checked(code, verdicts, messages)


@pytest.fixture
def check(rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Checker:
    return Checker(rig, capsys, monkeypatch)


@in_the_world
async def test_a_world_that_fits_is_all_green(check: Checker) -> None:
    result = await check()
    assert (result.code, set(result.verdicts.values())) == (0, {"ok"})
    assert list(result.verdicts) == ["settings", "ledger", "node", "contract", "API", "hook"]


@in_the_world
@pytest.mark.parametrize("code", [None, MUTE, DENYING])
async def test_an_address_without_our_contract_is_told(check: Checker, rig: Rig, code: str | None) -> None:
    await rig.net.chain.rpc.call("anvil_setCode", NOBODY, code or "0x")
    result = await check(address=NOBODY)
    assert (result.code, result.verdicts["contract"]) == (78, "wrong")
    assert result.messages["contract"].startswith("task_manager.address: ")
    assert [what for what, verdict in result.verdicts.items() if verdict != "ok"] == ["contract"]


@in_the_world
async def test_a_node_of_another_chain_is_told_with_both_ids(check: Checker) -> None:
    result = await check(chain_id="chain_id = 17000")
    assert (result.code, result.verdicts["node"]) == (78, "wrong")
    assert "chain.chain_id" in result.messages["node"]
    assert {"31337", "17000"} <= set(re.findall(r"[0-9]+", result.messages["node"]))


@in_the_world
async def test_a_node_that_is_down_is_no_matter_of_settings(check: Checker) -> None:
    result = await check(rpc="http://127.0.0.1:9")
    assert result.code == 69
    assert (result.verdicts["node"], result.verdicts["contract"]) == ("wrong", "wrong")
    assert "http://127.0.0.1:9" in result.messages["node"]
    assert (result.verdicts["API"], result.verdicts["hook"]) == ("ok", "ok")


@in_the_world
async def test_wrong_credentials_are_told(check: Checker) -> None:
    result = await check(username="somebody")
    assert (result.code, result.verdicts["API"]) == (78, "wrong")
    assert "401" in result.messages["API"]
    assert "operator" in result.messages["API"]


@in_the_world
@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, "<html>no such page</html>", 78),
        (403, "", 78),
        (502, "<html>bad gateway</html>", 69),
        (429, "", 69),
        (200, "<html>It works!</html>", 78),
        (200, '{"jsonrpc": "2.0", "id": 1, "result": {}}', 78),
    ],
)
async def test_what_is_not_the_api_is_told(check: Checker, status: int, body: str, code: int) -> None:
    async with answering(status, body) as url:
        result = await check(api=url)
    assert (result.code, result.verdicts["API"]) == (code, "wrong")
    assert url in result.messages["API"]


@in_the_world
async def test_an_api_that_is_down_is_no_matter_of_settings(check: Checker) -> None:
    result = await check(api="http://127.0.0.1:9")
    assert (result.code, result.verdicts["API"]) == (69, "wrong")
    assert "refused" in result.messages["API"]


@in_the_world
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "rig_hok:square"}, "did you mean rig_hook"),
        ({"target": "rig_hook:sqare"}, "did you mean square"),
        ({"target": "broken:respond"}, "no oracle configured"),
        ({"target": "leaving:respond"}, "exit code 3"),
        ({"target": "empty:respond"}, "has no respond"),
        ({"target": "rig_hook:HERE"}, "not callable"),
        ({"target": "no-such-entry-point"}, "entry point"),
        ({"app_dir": "/nowhere/at/all"}, "hook.app_dir"),
    ],
)
async def test_a_hook_that_cannot_be_loaded_is_told_with_what_to_change(
    check: Checker, change: Mapping[str, str], message: str
) -> None:
    result = await check(**change)
    assert (result.code, result.verdicts["hook"]) == (78, "wrong")
    assert message in result.messages["hook"]
    assert result.messages["hook"].startswith("hook.")
    assert [what for what, verdict in result.verdicts.items() if verdict != "ok"] == ["hook"]


@in_the_world
async def test_a_ledger_that_cannot_be_one_is_told(check: Checker, tmp_path: Path) -> None:
    result = await check(ledger=f"sqlite:///{tmp_path}/missing/watcher.db")
    assert (result.code, result.verdicts["ledger"]) == (78, "wrong")
    (tmp_path / "letter.db").write_text("Dear Sir or Madam, " * 100)
    result = await check(ledger=f"sqlite:///{tmp_path}/letter.db")
    assert result.code != 0
    assert result.verdicts["ledger"] == "wrong"
    assert (tmp_path / "letter.db").read_text().startswith("Dear Sir")


@in_the_world
async def test_everything_wrong_at_once_is_shown_at_once_and_red(rig: Rig, check: Checker) -> None:
    await check(address=NOBODY, username="somebody", target="broken:respond")
    done = await rig.command("check")
    assert done.code == 78
    assert [line.split("│")[2].strip() for line in done.out.splitlines() if line.startswith("│ ")].count("wrong") == 3
    assert done.err == ""


@in_the_world
@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"address": NOBODY}, "task_manager.address"),
        ({"chain_id": "chain_id = 17000"}, "chain.chain_id"),
        ({"target": "rig_hok:square"}, "hook.target"),
        ({"target": "broken:respond"}, "hook.target"),
    ],
)
async def test_the_daemon_does_not_start_where_no_restart_would_help(
    rig: Rig, check: Checker, changes: Mapping[str, str], key: str
) -> None:
    await rig.net.chain.rpc.call("anvil_setCode", NOBODY, "0x")
    await check(**changes)
    daemon = await rig.start(ready=False)
    assert await daemon.wait(20) == 78
    assert key in daemon.log.splitlines()[-1]
    assert "Traceback" not in daemon.log
    assert SECRET not in daemon.log
    assert "READY=1" not in daemon.notices()
