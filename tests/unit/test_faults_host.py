"""A damaged ledger, an odd interpreter, a dump of memory, and errors of the database that would tell too much."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from watcher.daemon.daemon import Daemon
from watcher.errors import FixConfiguration
from watcher.ledger import schema
from watcher.ledger.engine import open_engine
from watcher.settings.avs import Avs
from watcher.settings.model import Settings

CANARY = "cAnArY-4c11"


def settings(path: Path) -> Settings:
    tables: dict[str, object] = {
        "chain": {"rpc_urls": ["http://127.0.0.1:9"], "chain_id": 1},
        "task_manager": {"address": "0x" + "11" * 20, "start_block": 0},
        "operator": {"api": "none"},
        "ledger": {"url": f"sqlite:///{path}"},
    }
    return Settings(**tables)  # type: ignore[arg-type]


async def test_a_ledger_with_a_damaged_page_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "watcher.db"
    schema.upgrade(URL.create("sqlite", database=str(path)))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'journal'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises(FixConfiguration, match=r"the ledger is damaged .* restore a copy"):
        await Daemon([Avs("", settings(path))]).run()
    assert path.read_bytes() == content


def test_an_error_of_the_database_does_not_repeat_what_was_to_be_written(tmp_path: Path) -> None:
    engine = open_engine(URL.create("sqlite", database=str(tmp_path / "watcher.db")))
    with pytest.raises(SQLAlchemyError) as caught, engine.begin() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:value)"), {"value": CANARY})
    engine.dispose()
    assert "nowhere" in str(caught.value)
    assert CANARY not in f"{caught.value} {caught.value!r}"


def test_the_memory_of_the_daemon_is_not_dumped_nor_read_by_its_user() -> None:
    script = (
        "import ctypes; from watcher.hook.syscalls import keep_memory_private as private\n"
        "asked = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        "before = asked(); private(); print(before, asked())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "0"]


def test_program_works_under_odd_options_of_the_interpreter(tmp_path: Path) -> None:
    folder = tmp_path / "ärger"
    folder.mkdir()
    (folder / "watcher.toml").write_text('[chain]\nrpc_urls = ["http://127.0.0.1:9"]\nchain_id = 0\n', "utf-8")
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    command = [
        sys.executable,
        "-O",
        "-W",
        "error",
        "-X",
        "utf8=0",
        "-m",
        "watcher",
        "check",
        "--config",
        str(folder / "watcher.toml"),
    ]
    done = subprocess.run(
        command, capture_output=True, timeout=60, check=False, env=environ, cwd=Path(__file__).parents[2]
    )
    output = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 78, output
    assert "chain.chain_id: must be 1 or more" in output
    assert "Traceback" not in output
