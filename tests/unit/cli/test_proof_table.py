"""The table of a proof: an open task is never hidden behind a proof that holds."""

import re

import pytest

from watcher.cli.proof_table import print_proof
from watcher.report.proof import Difference, Proof, Sender, Unchecked


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **fields: object) -> dict[str, str]:
    """The rows of the table."""
    monkeypatch.setenv("COLUMNS", "300")
    print_proof(Proof(31337, "0x11", 7, "0x22", **({"latest_task_num": 9, "first_index": 0} | fields)))  # type: ignore[arg-type]
    rows = re.findall(r"^│ (.*?) +│ (.*?) +│$", capsys.readouterr().out, re.MULTILINE)
    return dict(rows)


def test_the_table_has_four_separate_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    senders = [Sender("0xaa", 4, 0, 4), Sender("0xbb", 0, 1, 1), Sender(None, 0, 1, 0)]
    rows = printed(
        capsys, monkeypatch, known=9, answered_by_us=4, answered_otherwise=[1, 2], expired=[3], open=[5, 6],
        senders=senders,
    )  # fmt: skip
    assert rows["complete"] == "yes: no index is missing"
    assert rows["answered by us"] == "4; sent by 0xaa (4)"
    assert rows["answered otherwise"] == "2: 1, 2; sent by 0xbb (1), an address that no node has shown (1)"
    assert (rows["missed"], rows["not yet answered"]) == ("1: 3", "2: 5, 6")
    assert rows["proven"] == "yes: the ledger is as the chain shows it (1 task missed, 2 tasks not yet answered)"


def test_a_difference_is_shown_with_both_values_and_fails_the_proof(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    differences = [Difference(4, "deadline_block", 120, 110), Difference(4, "responded_by", "0x\x1b[31m", None)]
    rows = printed(capsys, monkeypatch, known=9, compared=9, differences=differences, differences_found=2)
    assert rows["compared with the logs"] == "9 tasks, 2 differences"
    assert rows["task 4: deadline_block"] == "the ledger has 120, the chain 110"
    assert "\x1b" not in rows["task 4: responded_by"]
    assert rows["task 4: responded_by"].endswith("the chain nothing")
    assert rows["proven"] == "NO"


def test_what_was_not_checked_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    unchecked = [Unchecked("senders", 3, "no node shows the transaction")]
    rows = printed(capsys, monkeypatch, latest_task_num=None, unchecked=unchecked)
    assert rows["not checked"] == "senders of 3 tasks: no node shows the transaction"
    assert rows["complete"] == "not known: the contract does not count its tasks"


def test_missing_indices_are_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = printed(capsys, monkeypatch, missing=[2, 7])
    assert (rows["complete"], rows["proven"]) == ("NO, the ledger lacks 2: 2, 7", "NO")
