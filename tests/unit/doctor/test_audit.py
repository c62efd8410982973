"""The check of the receivers of roots: each mistake is reported with its remedy, and nothing is left behind."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from watcher.doctor.audit import check_audit
from watcher.doctor.finding import Notes
from watcher.ledger.audit.roots import Root
from watcher.report.audit_roots import root_fields
from watcher.settings.model import Settings

MANAGER = b"\x11" * 20
ROOT = Root("2026-11-01", 1, 9, b"\x01" * 32, b"\x02" * 32)


def lines(**audit: Any) -> list[tuple[str, str, str]]:
    tables = {
        "chain": {"rpc_urls": ["http://127.0.0.1:9"], "chain_id": 7},
        "task_manager": {"address": "0x" + MANAGER.hex(), "start_block": 0},
        "operator": {"api": "none"},
        "audit": audit,
    }
    notes = Notes("audit")
    check_audit(Settings(**cast("Any", tables)), notes)
    return [(finding.check, finding.verdict, finding.message) for finding in notes.findings]


def test_without_receivers_there_is_nothing_to_say() -> None:
    assert lines() == []


def test_file_that_can_be_made_or_written_is_green(tmp_path: Path) -> None:
    path = tmp_path / "roots.jsonl"
    assert lines(roots_file=str(path)) == [("roots file", "ok", f"{path} will be made with the first root")]
    assert list(tmp_path.iterdir()) == []
    path.write_text(json.dumps(root_fields(ROOT, 7, MANAGER)) + "\n")
    assert lines(roots_file=str(path)) == [("roots file", "ok", f"{path}, writable, 1 roots")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere/roots", None, "does not exist; make it"),
        ("roots", "notes", "line 1 is not a root"),
        ("roots", json.dumps(root_fields(ROOT, 8, MANAGER)), "on chain 8, not of this ledger"),
        ("", None, "is a folder, not a file"),
        ("a" * 300, None, "cannot be reached"),
    ],
)
def test_file_that_cannot_serve_is_red(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    path = str(tmp_path / name) if name else str(tmp_path)
    ((check, verdict, text),) = lines(roots_file=path)
    assert (check, verdict) == ("roots file", "wrong")
    assert text.startswith("audit.roots_file: ") and message in text


def test_alert_without_a_service_is_yellow() -> None:
    ((check, verdict, _),) = lines(alerts=True)
    assert (check, verdict) == ("alerts", "warning")
