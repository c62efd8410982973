"""docs/audit.md, followed line by line over the ledger of a real run: each command does what the page says."""

import asyncio
import csv
import io
import json
import re
import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from tests.system.daemon_rig import Rig, running_rig

_PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


def _lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("watcher ")]


async def _follow(rig: Rig) -> dict[str, str]:
    """Run each command of the page in the rig's folder. Return what each printed, or wrote to its file."""
    printed = {}
    for line in _lines():
        command, _, file = line.partition(" > ")
        done = await rig.command(*shlex.split(command)[1:])
        assert done.code == 0, f"{line}\n{done}"
        printed[line] = done.out
        if file:
            (rig.folder / file).write_text(done.out)
    return printed


async def _verified(rig: Rig) -> int | None:
    """Check the bundle as a third party does, with the command that the page names."""
    named = re.search(r"python -m watcher\.verify [^`]*", _PAGE.read_text())
    assert named is not None
    arguments = shlex.split(named[0].replace("URL", rig.net.rpc_url))[1:]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=rig.folder)
    return await process.wait()


async def test_auditor_gets_every_answer_by_following_the_page(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square", window_blocks=30) as rig:
        daemon = await rig.start()
        await rig.create(3)
        await rig.settle()
        # The sender of a response is asked for once its block is final.
        known = "SELECT count(*) FROM tasks WHERE responded_by IS NOT NULL AND block_time_s IS NOT NULL"
        await rig.until(lambda: rig.query(known)[0][0] == 3, "times and senders are known", timeout_s=90)
        assert await daemon.stop() == 0
        printed = await _follow(rig)
        assert len(printed) >= 8

        (tasks,) = [text for line, text in printed.items() if line.endswith("> tasks.csv")]
        rows = list(csv.DictReader(io.StringIO(tasks)))
        assert [row["task_index"] for row in rows] == ["0", "1", "2"]
        assert [row["response"] for row in rows] == [f"0x{number**2:064x}" for number in (1, 2, 3)]
        assert all(row["responded_by"].startswith("0x") and int(row["response_blocks"]) > 0 for row in rows), rows
        (story,) = json.loads((rig.folder / "task.json").read_text())
        assert [line["outcome"] for line in story["attempt_log"] if line["kind"] == "post"] == ["accepted"]
        (level,) = [text for line, text in printed.items() if line.endswith("> service-level.csv")]
        total = list(csv.DictReader(io.StringIO(level)))[-1]
        assert (total["row"], total["answered_by_us"], total["in_time_share"]) == ("total", "3", "1.0")
        assert (rig.folder / "service-level.html").read_text().count("<svg") == 6
        proof = json.loads((rig.folder / "proof.json").read_text())
        assert (proof["ok"], proof["missing"], proof["answered_by_us"]) == (True, [], 3)

        assert json.loads((rig.folder / "roots.json").read_text())
        assert await _verified(rig) == 0
        with closing(sqlite3.connect(rig.ledger)) as connection, connection:
            connection.execute("UPDATE journal SET why = 'as you like it' WHERE id = 3")
        edited = await rig.command("audit", "verify", "--roots", "roots.json")
        assert (edited.code, "journal" in edited.out) == (1, True), edited

        report = json.loads((await rig.command("report", "--json")).out)
        parts = {part["part"]: part for part in report["availability"]["parts"]}
        assert report["availability"]["known_s"] > 0
        assert parts["operator-api"]["share"] == parts["chain-rpc"]["share"] == 1
        assert sum(line["with_our_answer"] for line in report["answered_by"]) == 3
        assert all(line["address"] for line in report["answered_by"])
