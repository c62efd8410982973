"""The paths that a worker may use, computed without a kernel: all but the hidden paths and the folders above."""

import os
from pathlib import Path

import pytest

from watcher.errors import FixConfiguration
from watcher.hook import sandbox, syscalls
from watcher.hook.sandbox import HiddenPaths, Rule


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text(name)
    return root


def allowed(hidden: HiddenPaths, root: Path) -> dict[str, int]:
    """Access by the path below root."""
    return {
        os.path.relpath(rule.path, root): rule.access for rule in hidden.rules() if Path(rule.path).is_relative_to(root)
    }


def test_everything_is_allowed_when_nothing_is_hidden() -> None:
    assert list(HiddenPaths(()).rules()) == [Rule("/", syscalls.ALL_ACCESS)]


def test_what_lies_beside_the_way_is_allowed_whole(tmp_path: Path) -> None:
    tree(tmp_path, "a/b/secret", "a/b/file", "a/b/deep/x", "a/other/y", "z")
    hidden = HiddenPaths([str(tmp_path / "a/b/secret")])
    assert allowed(hidden, tmp_path) == {
        ".": syscalls.READ_DIR,
        "a": syscalls.READ_DIR,
        "a/b": syscalls.READ_DIR,
        "a/b/file": syscalls.FILE_ACCESS,
        "a/b/deep": syscalls.ALL_ACCESS,
        "a/other": syscalls.ALL_ACCESS,
        "z": syscalls.FILE_ACCESS,
    }


def test_no_rule_reaches_a_hidden_path(tmp_path: Path) -> None:
    tree(tmp_path, "db/watcher.db", "db/watcher.db-wal", "db/watcher.db.lock", "db/watcher.db.begun", "cred/key", "b/x")
    os.link(tmp_path / "cred/key", tmp_path / "b/hard")
    (tmp_path / "db/soft").symlink_to(tmp_path / "cred")
    hidden = HiddenPaths([str(tmp_path / "db/watcher.db"), str(tmp_path / "cred")])
    rules = allowed(hidden, tmp_path)
    assert set(rules) == {"db", "b"}, (
        "of db only the listing; the link of b to a file below cred is out of reach of paths"
    )
    assert rules["db"] == syscalls.READ_DIR


def test_a_folder_around_a_hidden_folder_is_listed_only_when_it_is_needed(tmp_path: Path) -> None:
    tree(tmp_path, "run/cred/key", "run/app/hook.py")
    hidden = HiddenPaths([str(tmp_path / "run/cred")])
    assert "run" not in allowed(hidden, tmp_path)
    listed = {rule.path for rule in hidden.rules([str(tmp_path / "run")]) if rule.access == syscalls.READ_DIR}
    assert listed == {str(tmp_path / "run")}


@pytest.mark.parametrize("name", ["gone/watcher.toml", "watcher.toml", "gone/deeper/watcher.db"])
def test_a_path_that_is_not_there_yet_is_hidden(tmp_path: Path, name: str) -> None:
    hidden = HiddenPaths([str(tmp_path / name)])
    assert hidden.hides(str(tmp_path / name))
    assert str(tmp_path) in hidden.folders
    assert not [rule for rule in hidden.rules() if rule.access != syscalls.READ_DIR and rule.path == str(tmp_path)]


def test_a_name_that_only_begins_alike_is_not_hidden(tmp_path: Path) -> None:
    """A file without a suffix may have the name of a package beside it."""
    tree(tmp_path, "watcher", "watcher.py", "watcher-data/x", "conf.toml", "conf.toml.old", "config")
    assert set(allowed(HiddenPaths([str(tmp_path / "watcher")]), tmp_path)) >= {"watcher.py", "watcher-data"}
    assert set(allowed(HiddenPaths([str(tmp_path / "conf.toml")]), tmp_path)) >= {"config", "watcher"}
    assert "conf.toml.old" not in allowed(HiddenPaths([str(tmp_path / "conf.toml")]), tmp_path)


def test_a_link_hides_where_it_lies_and_where_it_leads(tmp_path: Path) -> None:
    tree(tmp_path, "real/watcher.toml", "etc/x")
    (tmp_path / "etc/watcher.toml").symlink_to(tmp_path / "real/watcher.toml")
    hidden = HiddenPaths([str(tmp_path / "etc/watcher.toml")])
    assert hidden.paths == {str(tmp_path / "real/watcher.toml"), str(tmp_path / "etc/watcher.toml")}


@pytest.mark.parametrize(("abi", "message"), [(0, "has no Landlock"), (1, "too old")])
def test_a_kernel_without_it_is_named(monkeypatch: pytest.MonkeyPatch, abi: int, message: str) -> None:
    monkeypatch.setattr(syscalls, "landlock_abi", lambda: abi)
    assert message in sandbox.enter(sandbox.AUTO, ["/nowhere/x"], "/srv")
    with pytest.raises(FixConfiguration, match=message):
        sandbox.enter(sandbox.REQUIRED, ["/nowhere/x"], "/srv")
