"""PostgreSQL as others set it up: servers that promise less, and poolers in between."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from tests.conformance.postgres import _as_somebody
from tests.conformance.rig import make_task, opened
from watcher.doctor.finding import Notes
from watcher.doctor.ledger import _durable
from watcher.errors import FixConfiguration
from watcher.ledger import schema
from watcher.ledger.audit.check import Checker
from watcher.ledger.engine import durability, open_engine
from watcher.ledger.postgres import settle_session
from watcher.state import State

pytestmark = pytest.mark.skipif("TEST_DATABASE_URL" in os.environ, reason="changes its server, so only one of its own")


@contextmanager
def pooler(server: URL, mode: str) -> Iterator[URL]:
    """PgBouncer with one connection to the server, on a socket in the server's folder."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        pytest.skip("pgbouncer is not installed: install the package pgbouncer (apt-get install pgbouncer)")
    # One of its own: a pooler that is stopped may leave its socket behind.
    folder = Path(tempfile.mkdtemp(prefix=f"{mode}-", dir=str(server.query["host"])))
    folder.chmod(0o755)
    prefix, user = _as_somebody()
    (folder / "pgbouncer.ini").write_text(
        f"""
[databases]
postgres = host={server.query["host"]} user=watcher
[pgbouncer]
pool_mode = {mode}
auth_type = any
listen_addr =
unix_socket_dir = {folder}
default_pool_size = 2
logfile = {folder}/log
ignore_startup_parameters = options
"""
    )
    if user is not None:
        shutil.chown(folder, user.pw_uid, user.pw_gid)
        (folder / "pgbouncer.ini").chmod(0o644)
    process = subprocess.Popen([*prefix, program, "-q", str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 10
        while not (folder / ".s.PGSQL.6432").exists():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        yield server.set(query={"host": str(folder), "port": "6432"})
    finally:
        process.terminate()
        process.wait()


def reads(url: URL, name: str) -> object:
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            return connection.execute(text(f"SHOW {name}")).scalar()
    finally:
        engine.dispose()


@pytest.fixture
def role_without_durability(migrated_schema: URL, postgres: URL) -> Iterator[URL]:
    """A server whose role is set to lose commits and to wait for locks without end."""
    admin = create_engine(postgres)
    with admin.begin() as connection:
        connection.execute(text("ALTER ROLE CURRENT_USER SET synchronous_commit = off"))
        connection.execute(text("ALTER ROLE CURRENT_USER SET lock_timeout = 0"))
    try:
        yield migrated_schema
    finally:
        with admin.begin() as connection:
            connection.execute(text("ALTER ROLE CURRENT_USER RESET ALL"))
        admin.dispose()


def test_connection_commits_to_disk_when_the_role_says_otherwise(role_without_durability: URL) -> None:
    assert reads(role_without_durability, "synchronous_commit") == "on"
    assert reads(role_without_durability, "lock_timeout") == "30s"


def test_connection_keeps_a_stronger_promise(migrated_schema: URL) -> None:
    options = str(migrated_schema.query["options"]) + " -csynchronous_commit=remote_apply"
    assert reads(migrated_schema.update_query_dict({"options": options}), "synchronous_commit") == "remote_apply"


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_pooled_connection_commits_to_disk(mode: str, role_without_durability: URL, postgres: URL) -> None:
    with pooler(postgres, mode) as pooled:
        assert reads(pooled, "synchronous_commit") == "on"
        assert reads(pooled, "lock_timeout") == "30s"
        # What a transaction of ours has set stays with it.
        engine = create_engine(pooled, connect_args={"prepare_threshold": None})
        with engine.begin() as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == "off"
        engine.dispose()
        assert durability(pooled)[1] is True


async def test_verbs_go_through_a_pooler_in_transaction_mode(empty_schema: URL, postgres: URL) -> None:
    """More connections than the pooler has, and the same statement often enough for a driver to prepare it."""
    name = str(empty_schema.query["options"]).removeprefix("-csearch_path=")
    admin = create_engine(postgres)
    with admin.begin() as connection:
        connection.execute(text(f"ALTER ROLE CURRENT_USER SET search_path = {name}"))
    try:
        with pooler(postgres, "transaction") as pooled:
            engine = open_engine(pooled)
            async with opened(pooled, engine) as ledger:
                for index in range(12):
                    await ledger.record(make_task(index))
                    await ledger.admit()
                claimed = await asyncio.gather(*(ledger.claim(State.READY, limit=3) for _ in range(4)))
                claimed.append(await ledger.claim(State.READY, limit=12))  # a row another claim had locked comes later
                assert sorted(task.task.task_index for tasks in claimed for task in tasks) == list(range(12))
                check = await ledger.read(lambda conn: Checker(conn, ledger.source).run())
                assert (check.problems, check.entries > 12) == ([], True)
            engine.dispose()
    finally:
        with admin.begin() as connection:
            connection.execute(text("ALTER ROLE CURRENT_USER RESET ALL"))
        admin.dispose()


@pytest.mark.parametrize("opening", [schema.check, schema.upgrade, durability, lambda url: reads(url, "lock_timeout")])
def test_pooler_in_statement_mode_is_refused_by_name(opening: Callable[[URL], object], postgres: URL) -> None:
    with pooler(postgres, "statement") as pooled, pytest.raises(FixConfiguration, match="pool_mode = transaction"):
        opening(pooled)


def test_commands_end_with_78_when_a_pooler_is_in_statement_mode(postgres: URL, tmp_path: Path) -> None:
    (tmp_path / "watcher.toml").write_text(
        f"""
[chain]
rpc_urls = ["http://127.0.0.1:1"]
chain_id = 1
[task_manager]
address = "0x{"11" * 20}"
start_block = 1
convention = "wizard"
[operator]
api = "none"
[hook]
target = "watcher.testing:echo"
"""
    )
    with pooler(postgres, "statement") as pooled:
        environment = os.environ | {"WATCHER_LEDGER__URL": pooled.render_as_string()}
        for command in (["run"], ["check"], ["db", "check"], ["tasks", "list"]):
            done = subprocess.run(
                [sys.executable, "-m", "watcher", *command],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            output = done.stdout + done.stderr
            assert "pool_mode = transaction" in " ".join(output.split()), (command, output)
            assert done.returncode == 78, (command, output)


@pytest.mark.parametrize("split", [False, True])
def test_statements_that_do_not_share_a_transaction_are_refused(split: bool) -> None:
    """Any pooler that hands each statement to another transaction, whatever it says."""
    times = iter([1, 2] if split else [1, 1])

    class Pooled:
        info = SimpleNamespace(backend_pid=0)

        def execute(self, _: str) -> "Pooled":
            return self

        def fetchone(self) -> tuple[int, int]:
            return 7, next(times)

        def commit(self) -> None:
            pass

    record = SimpleNamespace(info={})
    if split:
        with pytest.raises(FixConfiguration, match="pool_mode = transaction"):
            settle_session(Pooled(), record)
    else:
        settle_session(Pooled(), record)
        assert record.info["pooled"] is True


def test_check_is_red_when_the_server_may_lose_commits(postgres: URL) -> None:
    """The server of the tests runs without fsync."""
    notes = Notes("ledger")
    _durable(postgres, notes)
    (finding,) = notes.findings
    assert (finding.check, finding.verdict) == ("durability", "wrong")
    assert "fsync is off" in finding.message
    assert durability(postgres)[1] is False
