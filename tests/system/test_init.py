"""The way of a new user: `watcher init --hook`, a devnet, an answered task; and hooks of one's own."""

import asyncio
import json
import os
import signal
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.system.daemon_process import start_command
from tests.system.fork_server import Forked

LIMIT_S = 90


class Shell:
    """A folder, and the variables that commands in it get."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("WATCHER_")}
        if anvil := os.environ.get("WATCHER_ANVIL"):
            self.environ["WATCHER_ANVIL"] = anvil

    async def start(self, *line: str) -> asyncio.subprocess.Process | Forked:
        return await start_command(line, self.environ, self.folder)

    async def command(self, *line: str) -> tuple[int | None, str, str]:
        process = await self.start(*line)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    @asynccontextmanager
    async def running(self, *line: str) -> AsyncIterator[asyncio.subprocess.Process | Forked]:
        process = await self.start(*line)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            _, err = await process.communicate()
            assert process.returncode == 0, err.decode()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def take(self, env: Path) -> None:
        """Do what `. env` does in a shell."""
        for line in env.read_text().splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            self.environ[name] = value


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


async def ready(devnet: asyncio.subprocess.Process | Forked) -> None:
    """Wait for the last line that the devnet prints at its start."""
    assert devnet.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        while b"# export WATCHER_OPERATOR__PASSWORD=" not in (line := await devnet.stdout.readline()):
            assert line, "it ended before it was ready"


async def test_new_hook_answers_a_task_of_the_devnet(shell: Shell) -> None:
    code, out, err = await shell.command("init", "--hook")
    assert (code, err) == (0, "")
    assert all(step in out for step in ("watcher hook try", "watcher devnet", ". devnet/env && watcher run"))
    code, out, err = await shell.command("hook", "try", "--message", "0x2a", "--json")
    assert (code, json.loads(out)["verdict"]) == (0, "answer"), err
    env = shell.folder / "devnet" / "env"
    async with shell.running("devnet", "--tasks-every", "0.5", "--block-time", "0.3") as devnet:
        await ready(devnet)
        assert env.stat().st_mode & 0o077 == 0, "it has the password"
        shell.take(env)
        async with shell.running("run") as daemon:
            async with asyncio.timeout(LIMIT_S):
                while '"final"' not in (await shell.command("tasks", "list", "--json"))[1]:
                    assert daemon.returncode is None
        code, out, err = await shell.command("tasks", "list", "--json")
        assert {task["hook_version"].partition("@")[0] for task in json.loads(out) if task["state"] == "final"} == {
            "hook:respond"
        }


async def test_devnet_answers_a_task_of_ones_own_and_keeps_an_edited_file(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text("def echo(task):\n    return task.message\n")
    code, out, err = await shell.command("devnet", "ask", "0x2a")
    assert (code, out) == (69, "") and "watcher devnet" in err
    line = ("devnet", "--hook", "mine:echo", "--block-time", "0.3")
    async with shell.running(*line) as devnet:
        await ready(devnet)
    config = shell.folder / "devnet" / "watcher.toml"
    edited = config.read_text().replace("timeout_s = 30\n", "timeout_s = 7  # mine\n") + "\n[log]\nlevel = 'debug'\n"
    config.write_text(edited)
    code, out, err = await shell.command("devnet", "ask", "0x2a")
    assert (code, out) == (69, "") and "no devnet runs" in err
    async with shell.running(*line) as devnet:
        await ready(devnet)
        settings = tomllib.loads(config.read_text())
        assert (settings["hook"]["timeout_s"], settings["log"]["level"]) == (7, "debug")
        assert "timeout_s = 7  # mine\n" in config.read_text()
        code, out, err = await shell.command("devnet", "ask", "0x2a")
        assert (code, err) == (0, "") and "task  0" in out and "watcher run" in out
        for wrong in (["2a"], ["0x2"], [], ["1", "2"], ["--abi", "(uint8)", "256"], ["--abi", "(uint8)"]):
            assert (await shell.command("devnet", "ask", *wrong))[0] == 64, wrong
        shell.take(shell.folder / "devnet" / "env")
        async with shell.running("run"):
            typed = ("--abi", "(uint256,address)", "21", "0x" + "22" * 20)
            code, out, err = await shell.command("devnet", "ask", "--wait", "--json", *typed)
            assert code == 0, err
            answered = json.loads(out)
            assert answered["response"]["hex"] == answered["message"] == f"0x{21:064x}{'22' * 20:0>64}"
            assert (answered["task_index"], answered["responded_block"] > answered["block_number"]) == (1, True)


async def test_init_takes_a_hook_of_ones_own(shell: Shell) -> None:
    code, _, err = await shell.command("init", "--hook", "my.module:answer")
    assert (code, err) == (0, "")
    assert tomllib.loads((shell.folder / "watcher.toml").read_text())["hook"] == {
        "target": "my.module:answer",
        "app_dir": ".",
        "shadow": {},
    }
    assert [path.name for path in shell.folder.iterdir()] == ["watcher.toml"]


@pytest.mark.parametrize("target", ["exec:sh -c 'exec cat <&3'", "https://user:canary-1234@hook.example/path"])
async def test_init_takes_a_hook_in_another_language(shell: Shell, target: str) -> None:
    code, out, err = await shell.command("init", "--hook", target)
    assert (code, err) == (0, "")
    assert "canary" not in out
    assert tomllib.loads((shell.folder / "watcher.toml").read_text())["hook"]["target"] == target


async def test_init_keeps_files_that_exist(shell: Shell) -> None:
    (shell.folder / "hooks").mkdir()
    hook, config = shell.folder / "hooks" / "mine.py", shell.folder / "watcher.toml"
    hook.write_text("# mine")
    config.write_text("# mine, too")
    code, out, err = await shell.command("init", "--hook", "hooks/mine.py")
    assert (code, err) == (0, "")
    assert f'target = "mine:respond" and app_dir = "{hook.parent}"' in out
    assert (hook.read_text(), config.read_text()) == ("# mine", "# mine, too")
    assert (await shell.command("init", "--hook", "hooks/mine.py", "--force"))[0] == 0
    assert hook.read_text() == "# mine"
    assert tomllib.loads(config.read_text())["hook"]["app_dir"] == str(hook.parent)


@pytest.mark.parametrize(
    "line", [("--hook", "no-name.py"), ("--hook", "hook"), ("--hook", "http://x:y"), ("--hook", "a:b:c"), ("hook.py",)]
)
async def test_init_refuses_what_is_no_hook(shell: Shell, line: tuple[str, ...]) -> None:
    code, out, err = await shell.command("init", *line)
    assert (code, out) == (64, "")
    assert err.startswith("watcher: ") and "Traceback" not in err
    assert list(shell.folder.iterdir()) == []


async def test_devnet_does_not_overwrite_the_settings_of_an_avs(shell: Shell) -> None:
    assert (await shell.command("init"))[0] == 0
    before = (shell.folder / "watcher.toml").read_text()
    code, out, err = await shell.command("devnet", "--directory", ".")
    assert (code, out) == (64, "")
    assert "--directory" in err
    assert (shell.folder / "watcher.toml").read_text() == before


async def test_devnet_shows_no_password_of_a_hook(shell: Shell) -> None:
    target = "http://avs:hunter2@127.0.0.1:9/respond"
    async with shell.running("devnet", "--hook", target) as devnet:
        assert devnet.stdout is not None
        output = b""
        async with asyncio.timeout(LIMIT_S):
            while b"# export WATCHER_OPERATOR__PASSWORD=" not in output:
                output += await devnet.stdout.readline()
    assert b"http://127.0.0.1:9" in output and b"hunter2" not in output
    settings = tomllib.loads((shell.folder / "devnet" / "watcher.toml").read_text())
    assert settings["hook"]["target"] == target
