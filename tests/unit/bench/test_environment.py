"""Environments of peers: made once, made again for other pinned files, or left out with the reason."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import environment
from bench.errors import Unavailable


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Sequence[str]]:
    """Record the installers' commands instead of running them; the pinned file of `peer` is in a folder of the test."""
    commands: list[Sequence[str]] = []

    async def install(_peer: str, command: Sequence[str], folder: Path) -> None:
        (folder / "peer").mkdir(parents=True, exist_ok=True)
        commands.append(command)

    (tmp_path / "peers" / "peer").mkdir(parents=True)
    (tmp_path / "peers" / "peer" / "requirements.txt").write_text("one==1\n")
    monkeypatch.setattr(environment, "PEERS", tmp_path / "peers")
    monkeypatch.setattr(environment, "_install", install)
    return commands


async def test_an_environment_is_made_once(installs: list[Sequence[str]], tmp_path: Path) -> None:
    for _ in range(2):
        assert await environment.python_of("peer", tmp_path) == tmp_path / "peer" / "bin" / "python"
    assert len(installs) == 2  # the environment, then its packages


async def test_other_pinned_files_make_it_again(installs: list[Sequence[str]], tmp_path: Path) -> None:
    await environment.python_of("peer", tmp_path)
    (tmp_path / "peers" / "peer" / "requirements.txt").write_text("one==2\n")
    await environment.python_of("peer", tmp_path)
    assert len(installs) == 4


async def test_a_failing_installer_is_reported_by_its_last_line(tmp_path: Path) -> None:
    code = "import sys; print('much'); sys.exit('no such package')"
    with pytest.raises(Unavailable, match="peer: its packages cannot be installed: no such package"):
        await environment._install("peer", (sys.executable, "-c", code), tmp_path)


async def test_no_npm_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(Unavailable, match="no npm"):
        await environment.node_modules_of("ponder", tmp_path)
