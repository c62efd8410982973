"""`watcher report` over a ledger file alone: any time reads as one, and no other file is written over."""

import json
from pathlib import Path

import pytest

from tests.kit.clocks import SetClock
from tests.kit.filled import fill
from watcher.cli.main import run

_TASKS = 400


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "watcher.db"
    fill(path, _TASKS)
    return str(path)


@pytest.mark.parametrize(
    ("since", "until"),
    [("999999w", "0s"), ("0001-01-01T00:00+14:00", "9999-12-31T23:59:59Z"), ("1970-01-01", "9999-12-31T23:59-14:00")],
)
def test_any_time_reads_as_one(ledger: str, since: str, until: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--ledger", ledger, "--since", since, "--until", until, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["tasks"], len(document["steps"]) <= 101) == (_TASKS, True)
    assert sum(step["tasks"] for step in document["steps"]) == _TASKS


def test_steps_of_an_hour_meet_at_whole_hours(ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    end_ms = SetClock().now_ms()
    assert end_ms == 1_700_000_000_000
    arguments = ["--since", "2023-11-14T20:30:00", "--until", "2023-11-14T23:00:00", "--by", "hour", "--json"]
    assert run(["report", "--ledger", ledger, *arguments]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [step["since"][11:16] for step in steps] == ["20:30", "21:00", "22:00"]
    assert [step["until"][11:16] for step in steps] == ["21:00", "22:00", "23:00"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--json", "--csv"],
        ["--by", "year"],
        ["--since", "2020-01-01", "--by", "hour"],
        ["--since", "2020-01-02", "--until", "2020-01-01"],
        ["--since", "\x1b[31m"],
        ["--source", "0x" + "33" * 20],
    ],
)
def test_wrong_options_are_refused(ledger: str, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--ledger", ledger, *wrong]) == 64
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert "\x1b" not in captured.err


def test_page_replaces_a_page_and_nothing_else(ledger: str, tmp_path: Path) -> None:
    page, notes = tmp_path / "page.html", tmp_path / "notes.txt"
    command = ["report", "--ledger", ledger, "--since", "2023-11-01", "--html"]
    assert (run([*command, str(page)]), run([*command, str(page)])) == (0, 0)
    assert page.read_text().startswith("<!doctype html>")
    notes.write_text("mine")
    assert run([*command, str(notes)]) == 64
    assert notes.read_text() == "mine"
    assert run([*command, str(tmp_path / "missing" / "page.html")]) == 64


def test_csv_is_that_of_rfc_4180(ledger: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    arguments = ["--since", "2023-11-14T20:30:00", "--until", "2023-11-14T23:00:00", "--by", "hour", "--csv"]
    assert run(["report", "--ledger", ledger, *arguments]) == 0
    *lines, rest = capsysbinary.readouterr().out.split(b"\r\n")
    assert (rest, b"\n" in b"".join(lines)) == (b"", False)
    assert [line.split(b",")[0] for line in lines] == [b"row", b"step", b"step", b"step", b"total"]
    assert len({line.count(b",") for line in lines}) == 1
