"""`watcher audit verify` in the words of a person."""

from pathlib import Path

import pytest

from tests.kit.filled import fill
from watcher.cli.main import run


def test_a_ledger_without_a_chain_is_told_in_plain_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "watcher.db"
    fill(path, 400)
    assert run(["audit", "verify", "--ledger", str(path)]) != 0
    missing, none_bound, *_, verdict = capsys.readouterr().out.splitlines()
    assert missing == "entry missing: the ledger has no audit chain: its first entry is missing"
    assert none_bound.startswith("no row was compared: ")
    assert verdict == "NOT PROVEN: 1 problem"
