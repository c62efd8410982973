"""The file of the roots: complete, without doubles, whatever a crash or a person has left in it."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.daemon.roots_file import append_roots
from watcher.errors import TryLater
from watcher.ledger.audit.roots import Root
from watcher.report.audit_roots import read_root_lines, read_roots, root_fields

CHAIN_ID = 31337
MANAGER = b"\x11" * 20
ROOTS = [
    Root(f"2026-11-{day:02}", day * 10, day * 10 + 9, bytes([day]) * 32, bytes([day + 100]) * 32) for day in range(1, 5)
]


def append(path: Path, *roots: Root) -> None:
    append_roots(path, roots, CHAIN_ID, MANAGER)


def whole(*roots: Root) -> bytes:
    return "".join(json.dumps(root_fields(root, CHAIN_ID, MANAGER)) + "\n" for root in roots).encode()


def test_new_file_is_for_everybody_to_read_and_verify_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "roots.jsonl"
    mask = os.umask(0o077)
    try:
        append(path, *ROOTS[:2])
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.read_bytes() == whole(*ROOTS[:2])
    assert list(read_roots(path, CHAIN_ID, MANAGER).values()) == ROOTS[:2]


def test_root_that_is_in_the_file_is_not_added(tmp_path: Path) -> None:
    path = tmp_path / "roots.jsonl"
    for upto in (1, 1, 3, 2, 4, 4):
        append(path, *ROOTS[:upto])
    assert path.read_bytes() == whole(*ROOTS)


def test_mode_that_a_person_has_set_stays(tmp_path: Path) -> None:
    path = tmp_path / "roots.jsonl"
    path.touch(0o600)
    append(path, *ROOTS)
    assert (path.stat().st_mode & 0o777, path.read_bytes()) == (0o600, whole(*ROOTS))


@given(st.integers(0, len(whole(*ROOTS))))
def test_file_that_is_cut_anywhere_is_made_whole(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "roots.jsonl"
    path.write_bytes(whole(*ROOTS)[:length])
    append(path, *ROOTS)
    assert path.read_bytes() == whole(*ROOTS)


@pytest.mark.parametrize(
    "content",
    [
        b"[\n  1\n]\n",
        json.dumps([root_fields(ROOTS[0], CHAIN_ID, MANAGER)]).encode(),
        b"SQLite format 3\x00\xff\xfe",
        b"some notes of mine",
        b"{}\n",
        b'{"chain_id": 1, "day": "2026-11-01"}',
        json.dumps(root_fields(ROOTS[0], CHAIN_ID + 1, MANAGER)).encode() + b"\n",
        json.dumps(root_fields(ROOTS[0], CHAIN_ID, b"\x22" * 20)).encode() + b"\n",
        b'{"chain_id": 31337, "task_manager": 7, "first_seq": 1, "last_seq": 2}\n',
    ],
)
def test_file_of_something_else_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "roots.jsonl"
    path.write_bytes(content)
    with pytest.raises(TryLater, match=r"roots\.jsonl"):
        append(path, *ROOTS)
    assert path.read_bytes() == content


@pytest.mark.timeout(20)
def test_no_folder_a_folder_and_a_pipe_are_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("nowhere/roots.jsonl", "folder", "pipe"):
        with pytest.raises(TryLater, match=name.partition("/")[0]):
            append(tmp_path / name, *ROOTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


def test_full_disk_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "roots.jsonl"
    append(path, ROOTS[0])
    write, calls = os.write, 0

    def short(handle: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(28, "No space left on device")
        return write(handle, data[:20])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        with pytest.raises(TryLater, match="No space left"):
            append(path, *ROOTS)
    assert path.read_bytes() == whole(ROOTS[0])
    append(path, *ROOTS)
    assert read_root_lines(path, CHAIN_ID, MANAGER) == ROOTS
