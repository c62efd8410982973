"""The git revision of a hook: from the repository's files, with a mark for files that are not in it as they are."""

import shutil
import subprocess
from pathlib import Path

import pytest

from watcher.hook.revision import revision_of

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    options = ("-c", "user.name=Author", "-c", "user.email=author@example.com", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *options, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "avs").mkdir(parents=True)
    (folder / "avs" / "hook.py").write_text("A = 1\n")
    (folder / "README").write_text("a hook\n")
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "A hook")
    return folder


def revision(folder: Path, *names: str) -> str:
    return revision_of([str(folder / name) for name in names or ("avs/hook.py",)])


def test_revision_is_that_of_the_commit(repository: Path) -> None:
    assert revision(repository) == f"git {git(repository, 'rev-parse', 'HEAD')[:12]}"


@pytest.mark.parametrize("name", ["packed", "detached", "branch/with-slash", "worktree"])
def test_revision_is_found_in_every_layout(repository: Path, tmp_path: Path, name: str) -> None:
    folder = repository
    if name == "packed":
        git(repository, "pack-refs", "--all")
    elif name == "detached":
        git(repository, "checkout", "--detach")
    elif name == "worktree":
        folder = tmp_path / "linked"
        git(repository, "worktree", "add", "-b", "other", str(folder))
    else:
        git(repository, "checkout", "-b", name)
    assert revision(folder) == f"git {git(folder, 'rev-parse', 'HEAD')[:12]}"


def test_edited_or_untracked_files_are_dirty_and_others_are_not(repository: Path) -> None:
    clean = revision(repository)
    (repository / "README").write_text("edited\n")
    (repository / "other.py").write_text("B = 2\n")
    assert revision(repository) == clean
    assert revision(repository, "avs/hook.py", "other.py") == f"{clean}+dirty"
    (repository / "avs" / "hook.py").write_text("A = 2\n")
    assert revision(repository) == f"{clean}+dirty"
    git(repository, "add", ".")
    assert revision(repository) == f"{clean}+dirty"
    git(repository, "commit", "-m", "Another")
    assert "dirty" not in revision(repository) != clean


def test_a_repository_that_holds_none_of_the_files_does_not_count(repository: Path) -> None:
    (repository / "ignored").mkdir()
    (repository / "ignored" / "hook.py").write_text("A = 1\n")
    assert revision(repository, "ignored/hook.py") == ""
    assert revision(repository, "ignored/hook.py", "avs/hook.py").endswith("+dirty")


def test_without_git_the_mark_is_unknown(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git(repository, "rev-parse", "HEAD")[:12]
    monkeypatch.setenv("PATH", str(repository))
    assert revision(repository) == f"git {head}?"


def test_git_that_hangs_or_fails_costs_seconds_at_most(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(repository, "rev-parse", "HEAD")[:12]
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr("watcher.hook.revision._TIMEOUT_S", 0.2)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert revision(repository) == f"git {head}?"
    program.write_text("#!/bin/sh\nexit 128\n")
    assert revision(repository) == f"git {head}?"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("", ""),
        ("nonsense", ""),
        ("ref: refs/heads/../../../secret", ""),
        ("ref: refs/heads/missing", ""),
        ("a" * 39, ""),
        ("\x1b[31m" + "a" * 40, ""),
        ("ref: refs/heads/" + "x" * 100_000, ""),
    ],
)
def test_a_broken_repository_has_no_revision(tmp_path: Path, head: str, expected: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(head)
    (tmp_path / "hook.py").write_text("")
    assert revision(tmp_path, "hook.py") == expected


def test_a_git_file_that_leads_nowhere_has_no_revision(tmp_path: Path) -> None:
    for text in ("gitdir: ", "gitdir: /nowhere", "gitdir: \0", "nothing", "gitdir: ."):
        (tmp_path / ".git").write_text(text)
        assert revision(tmp_path, "hook.py") == ""


def test_a_setting_of_the_repository_starts_no_program(repository: Path, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    program = tmp_path / "monitor.sh"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(program))
    assert revision(repository).startswith("git ")
    assert not mark.exists()
