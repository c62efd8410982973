"""What others left beside the ledger, in the environment and in the folder the program is started in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from watcher.chain.rpc.nodes import NodePool
from watcher.daemon.parts import task_manager
from watcher.errors import FixConfiguration
from watcher.ledger.engine import backup_sqlite, parse_url
from watcher.ledger.lock import lock_file, sole_writer
from watcher.report import archive as exports
from watcher.settings import load

SETTINGS = """
[chain]
rpc_urls = ["http://127.0.0.1:9"]
chain_id = 1
[task_manager]
address = "0x1111111111111111111111111111111111111111"
start_block = 0
[operator]
api = "none"
[http]
listen = ""
"""


def _link(place: Path, target: Path) -> None:
    place.symlink_to(target)


def _pipe(place: Path, _target: Path) -> None:
    os.mkfifo(place)


def _folder(place: Path, _target: Path) -> None:
    place.mkdir()


@pytest.mark.parametrize("make", [_link, _pipe, _folder])
def test_lock_is_refused_when_it_is_no_file(make: object, tmp_path: Path) -> None:
    url = parse_url(f"sqlite:///{tmp_path / 'watcher.db'}")
    precious = tmp_path / "precious"
    precious.write_text("data")
    assert callable(make)
    make(tmp_path / "watcher.db.lock", precious)
    with pytest.raises(FixConfiguration, match=r"watcher\.db\.lock is not a regular file"), sole_writer(url):
        pass
    assert precious.read_text() == "data"


def test_lock_creates_nothing_when_it_is_a_dangling_link(tmp_path: Path) -> None:
    url = parse_url(f"sqlite:///{tmp_path / 'watcher.db'}")
    lock_file(tmp_path / "watcher.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FixConfiguration, match="is not a regular file"), sole_writer(url):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_checksum_replaces_a_link_and_not_its_target(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    (tmp_path / "tasks-0-1-NOW.jsonl.gz.sha256").symlink_to(precious)
    part = tmp_path / "part"
    part.write_bytes(b"stories")
    path, sha256 = exports._named(part, "tasks-0-1-NOW", tmp_path)
    beside = path.with_name(path.name + ".sha256")
    assert precious.read_text() == "data"
    assert not beside.is_symlink()
    assert beside.read_text().startswith(sha256)


def test_backup_refuses_a_dangling_link_and_leaves_it(tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FixConfiguration, match="already exists"):
        backup_sqlite(tmp_path / "watcher.db", target)
    assert target.is_symlink()


FOR_OTHERS = (
    "SSLKEYLOGFILE",
    "LOGURU_LEVEL",
    "LOGURU_AUTOINIT",
    "ETH_HASH_BACKEND",
    "PROMETHEUS_MULTIPROC_DIR",
    "prometheus_multiproc_dir",
    "WATCHER_HOME",
)


def test_check_goes_on_when_variables_are_meant_for_others(tmp_path: Path) -> None:
    """Each of them would stop the start, so that one process shows it for all."""
    (tmp_path / "watcher.toml").write_text(SETTINGS)
    # What else lies about in a folder: a file for another tool, and modules with the names of ours and of Python's.
    (tmp_path / ".env").write_text("WATCHER_CHAIN__CHAIN_ID=junk\n")
    for module in ("json", "watcher", "sqlalchemy"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit(99)")
    code = "import sys; from watcher.__main__ import main; sys.argv = ['watcher', 'check', '--json']; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]} | dict.fromkeys(FOR_OTHERS, str(tmp_path / "no" / "where")),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 69, done.stderr  # there is no node
    assert "Traceback" not in done.stderr
    assert '"complete and valid"' in done.stdout


@pytest.mark.parametrize("name", ["watcher.toml", "other"])
def test_settings_refuse_a_folder_in_words(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(FixConfiguration, match=f"{name}: is a folder that holds no AVS; give each a file NAME.toml$"):
        load.load(tmp_path / name, environ={})


def test_message_limit_of_the_settings_is_that_of_the_convention(tmp_path: Path) -> None:
    path = tmp_path / "watcher.toml"
    path.write_text(SETTINGS.replace("start_block = 0", "start_block = 0\nmessage_limit_bytes = 1048576"))
    settings = load.load(path, environ={})
    assert (
        task_manager(settings.task_manager, NodePool.__new__(NodePool), 100).convention.message_limit_bytes == 1 << 20
    )
    path.write_text(SETTINGS)
    settings = load.load(path, environ={})
    assert (
        task_manager(settings.task_manager, NodePool.__new__(NodePool), 100).convention.message_limit_bytes == 256 << 10
    )


def test_a_lock_that_others_may_write_is_not_made(tmp_path: Path) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    before = os.umask(0)
    try:
        with sole_writer(url):
            assert lock_file(tmp_path / "watcher.db").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)
