"""The command line loads the file of the command that a line names, and no other."""

import gc

import pytest

from watcher.cli import main
from watcher.loading import loading


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (["run"], ["run"]),
        (["--config", "tasks", "run", "--trace"], ["run"]),
        (["-c", "tasks", "run"], ["run"]),
        (["--config=a.toml", "tasks", "list"], ["tasks"]),
        (["-ca.toml", "db", "check"], ["db"]),
        (["check", "run"], ["check"]),
    ],
)
def test_line_names_its_command(line: list[str], named: list[str]) -> None:
    assert list(main._named(line)) == named


@pytest.mark.parametrize(
    "line", [[], ["--help"], ["--help", "run"], ["runs"], ["-c"], ["version"], ["--config", "run"]]
)
def test_line_without_a_known_command_loads_all_for_the_help(line: list[str]) -> None:
    assert list(main._named(line)) == list(main._COMMANDS)


def test_help_of_one_command_is_the_same_with_and_without_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for app in (main.application(), main.application(["run"])):
        app(args=["run", "--help"], prog_name="watcher", standalone_mode=False)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and "--until-idle" in texts[0]


def test_loading_collects_nothing_and_leaves_the_collector_on() -> None:
    before = gc.get_freeze_count()
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() >= before
    gc.unfreeze()
    with pytest.raises(ImportError), loading():
        raise ImportError
    assert gc.isenabled()
    gc.unfreeze()
