"""A bundle for a third party: it holds against a real node, and every change to it is reported."""

import asyncio
import hashlib
import json
import sys
import tomllib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.system.audited_rig import audited_rig
from tests.system.daemon_rig import Rig
from watcher import verify

pytestmark = pytest.mark.asyncio(loop_scope="module")

Lines = list[dict[str, Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("bundle")
    async with audited_rig(folder) as rig:
        done = await rig.command("audit", "export", str(folder / "bundle.jsonl"))
        assert done.code == 0, done
        done = await rig.command("audit", "root", "--json")
        (folder / "roots.json").write_text(done.out)
        yield rig


@pytest.fixture
def lines(rig: Rig) -> Lines:
    return [json.loads(line) for line in (rig.folder / "bundle.jsonl").read_text().splitlines()]


def write(lines: Lines, path: Path) -> Path:
    """Write the lines with a right checksum: a careful forger."""
    body = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines[:-1])
    end = {"type": "end", "lines": len(lines) - 1, "sha256": "0x" + hashlib.sha256(body).hexdigest()}
    path.write_bytes(body + json.dumps(end).encode() + b"\n")
    return path


def rows(lines: Lines, table: str) -> Lines:
    return [line["row"] for line in lines if line["type"] == "row" and line["table"] == table]


def answered(lines: Lines) -> dict[str, Any]:
    return next(row for row in rows(lines, "tasks") if row["task_index"] == 1)


def post(lines: Lines) -> dict[str, Any]:
    return next(row for row in rows(lines, "attempts") if row["kind"] == "post")


def entries(lines: Lines) -> Lines:
    return [line for line in lines if line["type"] == "entry"]


def set_in(pick: Callable[[Lines], dict[str, Any]], **values: Any) -> Callable[[Lines], Any]:
    return lambda lines: pick(lines).update(values)


def drop(table: str) -> Callable[[Lines], Any]:
    def change(lines: Lines) -> None:
        lines.remove(next(line for line in lines if line["type"] == "row" and line["table"] == table))

    return change


def make_anew(lines: Lines) -> None:
    """Make every digest, entry and root fit the changed rows again, as somebody who knows the format can."""
    tables = lines[0]["tables"]
    digests = {
        (tables[line["table"]]["number"], line["row"]["id"]): verify.row_digest(line["row"], tables[line["table"]])
        for line in lines
        if line["type"] == "row"
    }
    prev = entries(lines)[0]["prev_hash"]
    for number, entry in enumerate(entries(lines), 1):
        packed = b""
        for table, row_id, digest in verify._leaves(bytes.fromhex(entry["leaves"][2:])):
            if digest is not None:
                packed += bytes((table,)) + row_id.to_bytes(8) + digests.get((table, row_id), digest)
        entry.update(leaves="0x" + packed.hex(), prev_hash=prev, seq=number)
        content = [bytes.fromhex(prev[2:]), number, entry["at_ms"], entry["kind"], entry["note"], packed]
        prev = entry["hash"] = "0x" + hashlib.sha256(verify.pack(content)).hexdigest()
    lines[:] = [line for line in lines if line["type"] != "root"]


ZERO = "0x" + "00" * 32
# Changes that leave the chain as it was.
TAMPERINGS: dict[str, Callable[[Lines], Any]] = {
    "state": set_in(answered, state="expired"),
    "response": set_in(answered, response="0x1234"),
    "hook_version": set_in(answered, hook_version="other"),
    "tx_hash": set_in(answered, tx_hash=ZERO),
    "message": set_in(answered, message="0x01"),
    "deadline": set_in(answered, deadline_block=9),
    "seen_at": set_in(answered, seen_at_ms=1),
    "responder": set_in(answered, responded_by="0x" + "11" * 20),
    "block time": set_in(answered, block_time_s=1),
    "index": set_in(answered, task_index=5),
    "request": set_in(post, request_digest=ZERO),
    "sent when": set_in(post, began_at_ms=1),
    "reply": set_in(post, answer="0x00"),
    "outcome": set_in(post, outcome="refused"),
    "journal": set_in(lambda lines: rows(lines, "journal")[1], why="other"),
    "journal time": set_in(lambda lines: rows(lines, "journal")[1], at_ms=1),
    "source": set_in(lambda lines: rows(lines, "sources")[0], start_block=5),
    "event": set_in(lambda lines: rows(lines, "responses")[0], message="0x00"),
    "no task": drop("tasks"),
    "no journal line": drop("journal"),
    "no attempt": drop("attempts"),
    "no response": drop("responses"),
    "a row more": lambda lines: lines.insert(
        -1, {"type": "row", "table": "journal", "row": {**rows(lines, "journal")[0], "id": 999}}
    ),
    "a row twice": lambda lines: lines.insert(
        -1, {"type": "row", "table": "journal", "row": dict(rows(lines, "journal")[0])}
    ),
    "entry changed": set_in(lambda lines: entries(lines)[2], at_ms=1),
    "entry missing": lambda lines: lines.remove(entries(lines)[2]),
    "entries exchanged": lambda lines: lines.insert(2, lines.pop(3)),
    "last entry missing": lambda lines: lines.remove(entries(lines)[-1]),
    "no entries": lambda lines: lines.__setitem__(slice(None), [line for line in lines if line["type"] != "entry"]),
    "root changed": set_in(lambda lines: next(line for line in lines if line["type"] == "root"), root=ZERO),
    "another contract": set_in(lambda lines: lines[0], task_manager="0x" + "11" * 20),
    "a type more": lambda lines: lines.insert(-1, {"type": "other"}),
}
# Changes after which the whole chain was made anew: the real node tells them.
FORGERIES: dict[str, Callable[[Lines], Any]] = {
    "state": set_in(answered, state="final_other"),
    "message": set_in(answered, message="0x0123456789"),
    "task_hash": set_in(answered, task_hash=ZERO),
    "response_hash": set_in(answered, response_hash=ZERO),
    "answered in": set_in(answered, responded_block=1),
    "created in": set_in(answered, block_number=1),
    "log": set_in(answered, log="0x" + "11" * 64),
    "transaction": set_in(answered, created_tx_hash=ZERO),
    "response": set_in(answered, response="0x1234"),
    "no task": drop("tasks"),
    "no response": drop("responses"),
    "event": set_in(lambda lines: rows(lines, "responses")[0], message="0x1234567890"),
}


def node_of(rig: Rig) -> str:
    text = tomllib.loads(rig.config.read_text())
    return str(text["chain"]["rpc_urls"][0])


async def test_untouched_bundle_holds_in_an_interpreter_of_its_own(rig: Rig) -> None:
    arguments = ["-m", "watcher.verify", "bundle.jsonl", "--rpc", node_of(rig), "--roots", "roots.json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=rig.folder, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()
    assert b"everything holds" in out
    assert b"answered with our bytes in block" in out


@pytest.mark.parametrize("change", TAMPERINGS)
async def test_tampered_bundle_is_told_without_a_node(
    rig: Rig, lines: Lines, change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TAMPERINGS[change](lines)
    assert verify.check_bundle([str(write(lines, tmp_path / "bundle.jsonl"))]) == 1
    assert "DIFFERS" in capsys.readouterr().out


@pytest.mark.parametrize("change", FORGERIES)
async def test_forged_bundle_is_told_by_the_node_and_by_roots(
    rig: Rig, lines: Lines, change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FORGERIES[change](lines)
    make_anew(lines)
    bundle = str(write(lines, tmp_path / "bundle.jsonl"))
    assert verify.check_bundle([bundle, "--rpc", node_of(rig)]) == 1, capsys.readouterr().out
    assert verify.check_bundle([bundle, "--roots", str(rig.folder / "roots.json")]) == 1


async def test_bundle_of_a_bare_file_names_what_is_not_compared(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(tmp_path / "bare.jsonl")
    done = await rig.command("audit", "export", bundle, "--ledger", str(rig.folder / "watcher.db"))
    assert done.code == 0 and "without settings" in done.err, done
    assert verify.check_bundle([bundle, "--rpc", node_of(rig)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("not compared with the chain: ") == 4 and "answered with our bytes in block" in printed


async def test_checksum_and_end_of_the_file_are_checked(rig: Rig, tmp_path: Path) -> None:
    text = (rig.folder / "bundle.jsonl").read_bytes()
    for number, spoilt in enumerate((text[:-20], text.replace(b"proxy", b"prOxy", 1), b"", b"\xff\xfe\n", b"[]\n")):
        path = tmp_path / str(number)
        path.write_bytes(spoilt)
        assert verify.check_bundle([str(path)]) in (1, 2)
