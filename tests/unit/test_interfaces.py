"""Interfaces that users hold are added to: nothing of them goes or changes."""

import json

from tests.interfaces import FILE, additions, changes, description


def test_no_interface_has_changed() -> None:
    stored, present = json.loads(FILE.read_text()), json.loads(json.dumps(description()))
    assert list(changes(stored, present)) == []
    assert list(additions(stored, present)) == [], "run: python -m tests.interfaces"


def test_changes_and_additions_are_told_apart() -> None:
    stored = {"settings": {"a.b": "1", "a.c": "2"}, "states": {"seen": "state"}}
    present = {"settings": {"a.b": "3", "a.d": "2"}, "states": {"seen": "state", "new": "state"}}
    assert list(changes(stored, present)) == ["settings / a.b was '1' and is '3'", "settings / a.c is gone"]
    assert list(additions(stored, present)) == ["settings / a.d", "states / new"]
    assert list(changes(stored, stored)) == list(additions(stored, stored)) == []


def test_the_description_covers_every_kind_of_interface() -> None:
    stored = json.loads(FILE.read_text())
    assert {name for name, part in stored.items() if len(part) < 5} == set()
    assert stored["commands"]["watcher run"] and stored["settings"]["chain.rpc_urls"]
    assert stored["json"]["tasks list"]["task_index"] and stored["tables"]["tasks"]["task_hash"]
