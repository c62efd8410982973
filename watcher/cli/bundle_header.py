"""What an audit bundle says of the contract and the settings: events, views, the digest of the settings."""

import hashlib
from pathlib import Path
from typing import Any

from watcher.chain.convention.convention import Convention, convention
from watcher.chain.convention.schema import load_schema
from watcher.chain.convention.view import View
from watcher.files import program_version
from watcher.settings.model import Settings
from watcher.text import to_hex


def bundle_header(settings: Settings) -> dict[str, Any]:
    """Return the part of a bundle's first line that the ledger does not hold (docs/audit-format.md).

    Raises FixConfiguration if the convention's file is wrong.
    """
    section = settings.task_manager
    file = Path(section.convention_file) if section.convention_file else None
    loaded = convention(section.convention, file, section.message_limit_bytes, answers=False)
    schema, _ = load_schema(section.convention, file, answers=False)
    emitter = section.address_bytes if loaded.responded_address is None else loaded.responded_address
    return {
        "program": f"avs-task-watcher {program_version()}",
        "convention": section.convention,
        "settings_sha256": to_hex(hashlib.sha256(settings.model_dump_json().encode()).digest()),
        "abi": [schema.task.event, *([] if schema.response is None else [schema.response.event])],
        "answers_from": to_hex(emitter),
        "views": _views(loaded, is_count=schema.task.count_is == "count"),
    }


def bare_header() -> dict[str, Any]:
    """Return the same part for a ledger file without settings, with null for everything that they say."""
    return {
        "program": f"avs-task-watcher {program_version()}",
        "convention": None,
        "settings_sha256": None,
        "abi": [],
        "answers_from": None,
        "views": {"count": None, "task_hash": None, "response_hash": None},
    }


def _views(loaded: Convention, *, is_count: bool) -> dict[str, Any]:
    """Return the views that prove the number of tasks, a task and an answer; None where there is no plain one."""
    count = _plain(loaded.latest_task_num, 0)
    own = loaded.responded_address is None
    return {
        "count": count and {"signature": count, "first_index": loaded.first_index, "is_count": is_count},
        "task_hash": _plain(loaded.all_task_hashes, 1) if loaded.hashes_tasks else None,
        "response_hash": _plain(loaded.all_task_responses, 1) if loaded.hashes_responses and own else None,
    }


def _plain(view: View[Any] | None, arguments: int) -> str | None:
    """Return the signature of a view that takes the index alone, or nothing, and returns one word."""
    if view is None or view.address is not None or view.word not in (None, 0):
        return None
    return view.signature if view.arguments == (None,) * arguments else None
