"""What an API, a hook and a contract said, as the commands show it."""

import asyncio
import json
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from tests.conformance.rig import CHAIN_ID, MANAGER, make_task
from tests.kit.clocks import SetClock
from watcher.cli import main
from watcher.ledger import ingest, schema
from watcher.ledger.engine import parse_url
from watcher.ledger.store import open_ledger
from watcher.ledger.tables import attempts, tasks
from watcher.ledger.transaction import Tx
from watcher.task import Header

HOSTILE_TEXT = "[/x] [red]fine[/red] \x1b[2J \u202e"
PLAIN = "[/x] [red]fine[/red]"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with a task whose every text is hostile, and the settings for it."""
    monkeypatch.setenv("COLUMNS", "400")
    url = parse_url(f"sqlite:///{tmp_path / 'watcher.db'}")
    schema.upgrade(url)

    def spoil(tx: Tx) -> None:
        tx.conn.execute(update(tasks).values(error=HOSTILE_TEXT, hook_version=HOSTILE_TEXT))
        attempt = {"task_id": 1, "kind": "post", "number": 1, "fence": 1, "began_at_ms": 1}
        tx.conn.execute(insert(attempts).values(**attempt, api="[/y]", outcome="[/z]", words=HOSTILE_TEXT))

    async def fill() -> None:
        async with open_ledger(url, SetClock(), CHAIN_ID, MANAGER, 100) as ledger:
            upto = Header(110, b"\x01" * 32, b"\x02" * 32)
            await ledger.write(ingest.record, ledger.source_id, [make_task(0)], [], upto, 110)
            await ledger.write(spoil)

    asyncio.run(fill())
    path = tmp_path / "watcher.toml"
    path.write_text(
        f"""
[chain]
rpc_urls = ["http://127.0.0.1:9"]
chain_id = {CHAIN_ID}
[task_manager]
address = "0x{MANAGER.hex()}"
start_block = 100
[ledger]
url = "sqlite:///{tmp_path / "watcher.db"}"
"""
    )
    return path


@pytest.mark.parametrize("command", ["list --wide", "list --columns task_index,error", "show 0"])
def test_tasks_shows_text_from_outside_as_it_stands(
    command: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["tasks", *command.split(), "--config", str(config)]) == 0
    out = capsys.readouterr().out
    assert PLAIN in out
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_tasks_skip_reason_cannot_spoil_the_journal(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["tasks", "skip", "0", "--config", str(config), "--reason", "[/b]\x1b[31m"]) == 0
    assert main.run(["tasks", "show", "0", "--config", str(config)]) == 0
    out = capsys.readouterr().out
    assert "[/b]\\x1b[31m" in out
    assert "\x1b" not in out


def test_json_of_hostile_text_is_ascii(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["tasks", "list", "--json", "--config", str(config)]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out)[0]["error"].startswith(PLAIN)
