"""The table of contents of the ledger's verbs names functions that there are."""

import importlib
import inspect
import re

import pytest

import watcher.ledger


def _verbs() -> list[tuple[str, str]]:
    rows = re.findall(r"^\| (?:`([\w.]+)`)? ?\| (`.*?`) \|", watcher.ledger.__doc__ or "", re.MULTILINE)
    verbs, file = [], ""
    for cell, names in rows:
        file = cell or file
        verbs += [(file, name) for name in re.findall(r"`(\w+)`", names)]
    return verbs


def test_table_of_verbs_is_read_whole() -> None:
    assert len(_verbs()) > 35


@pytest.mark.parametrize(("file", "name"), _verbs())
def test_verb_of_the_table_takes_a_transaction(file: str, name: str) -> None:
    verb = getattr(importlib.import_module(f"watcher.ledger.{file}"), name)
    assert next(iter(inspect.signature(verb).parameters)) == "tx"
