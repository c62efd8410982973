"""Presets of conventions are the files of one folder: one more file is one more value of the setting."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import watcher
from watcher.chain.convention.schema import PRESETS

PACKAGE = Path(watcher.__file__).parent
FOLDER = Path("watcher", "chain", "convention", "presets")
PROGRAM = """
from pathlib import Path
from watcher.chain.convention.schema import load_schema
from watcher.errors import FixConfiguration
from watcher.settings.load import load
from watcher.settings.model import TaskManager

manager = TaskManager(address="0x" + "11" * 20, start_block=0, convention="sorcerer")
print(load_schema(manager.convention)[0].task.event)
Path("watcher.toml").write_text('[task_manager]\\nconvention = "sorceror"\\n')
try:
    load(Path("watcher.toml"), {}, {})
except FixConfiguration as error:
    print(*(line for line in error.problems if line.startswith("task_manager.convention:")), sep="\\n")
"""


def test_presets_are_the_names_of_the_shipped_files() -> None:
    assert set(PRESETS) == {path.stem for path in (PACKAGE.parent / FOLDER).glob("*.toml")}
    assert {"wizard", "wizard-bridge", "incredible-squaring", "chainbase"} <= set(PRESETS)


def test_preset_works_when_its_file_is_added(tmp_path: Path) -> None:
    copytree(PACKAGE, tmp_path / "watcher", ignore=ignore_patterns("__pycache__", "*.json"))
    copy(tmp_path / FOLDER / "wizard.toml", tmp_path / FOLDER / "sorcerer.toml")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    event, problem = done.stdout.splitlines()
    assert event.startswith("NewTaskCreated(")
    assert '"wizard-bridge"' in problem
    assert problem.endswith('did you mean "sorcerer"?')
