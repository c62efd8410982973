"""The hook of the project under test: where it comes from, and what a worker can import."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.project import as_module
from watcher import Task
from watcher.errors import FixConfiguration
from watcher.project.own_hook import open_project, target_of

CONFIG = """
[hook]
target = "mine:respond"
app_dir = "src"
timeout_s = 3.5
memory_mb = 300
landlock = "off"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    file = tmp_path / "watcher.toml"
    file.write_text(CONFIG)
    return file


def test_the_folder_of_a_hook_is_relative_to_its_file(config: Path) -> None:
    hook = open_project(config).hook
    assert (hook.target, hook.app_dir) == ("mine:respond", str(config.parent / "src"))
    assert (hook.timeout_s, hook.memory_mb) == (3.5, 300)


def test_the_daemon_of_a_devnet_gets_the_same_limits(config: Path) -> None:
    assert open_project(config).environment() == {
        "WATCHER_HOOK__TIMEOUT_S": "3.5",
        "WATCHER_HOOK__MEMORY_MB": "300",
        "WATCHER_HOOK__LANDLOCK": "off",
    }


def test_a_file_with_the_whole_settings_is_taken(tmp_path: Path) -> None:
    config = tmp_path / "watcher.toml"
    config.write_text(CONFIG.replace('"src"', '"."') + '\n[operator]\nusername = "admin"\n[chain]\nchain_id = 5\n')
    assert open_project(config).hook.target == "mine:respond"


def test_another_hook_takes_the_limits_of_the_file(config: Path) -> None:
    hook = open_project(config, "other:respond").hook
    assert (hook.target, hook.timeout_s) == ("other:respond", 3.5)


def test_without_a_file_the_hook_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(FixConfiguration, match="name the hook"):
        open_project(tmp_path / "watcher.toml")
    assert open_project(tmp_path / "watcher.toml", "mine:respond").hook.app_dir == str(tmp_path)


def test_a_wrong_file_is_refused_with_every_problem(config: Path) -> None:
    config.write_text('[hook]\ntarget = 5\ntimeout_s = "x"\n')
    with pytest.raises(FixConfiguration) as caught:
        open_project(config)
    assert len(caught.value.problems) == 2
    config.write_text("[hook\n")
    with pytest.raises(FixConfiguration):
        open_project(config)


def test_a_function_of_a_module_is_named_as_workers_import_it() -> None:
    target, folder = target_of(as_module.respond)
    assert target == "tests.unit.project.as_module:respond"
    assert Path(folder, *target.partition(":")[0].split(".")).with_suffix(".py").is_file()


def test_a_function_that_no_worker_can_import_is_refused() -> None:
    def inner(task: Task) -> bytes:
        return task.message

    functions: list[Any] = [inner, lambda task: b"", len]
    for function in functions:
        with pytest.raises(FixConfiguration, match="module:function"):
            target_of(function)
