"""A PostgreSQL server for the ledgers of a measure: a socket in a private folder, no TCP port, gone afterwards."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from bench.errors import Unavailable

_USER = "watcher"
_TIMEOUT_S = 60
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class _Account:
    """The user that runs the server, and the command prefix that changes to it."""

    prefix: Sequence[str]
    user: pwd.struct_passwd | None


@contextmanager
def server() -> Iterator[str]:
    """Start a server that keeps its word about fsync, and stop it at the end. Yields its URL; raises Unavailable."""
    if find_spec("psycopg") is None:
        raise Unavailable("PostgreSQL: its driver is not installed (the extra postgres)")
    binaries, account = _binaries(), _account()
    folder = Path(tempfile.mkdtemp(prefix="bench-pg-"))
    data, ctl = str(folder / "data"), str(binaries / "pg_ctl")
    try:
        if account.user is not None:
            os.chown(folder, account.user.pw_uid, account.user.pw_gid)
        _run(account, folder, str(binaries / "initdb"), "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c max_connections=60"
        _run(account, folder, ctl, "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{_USER}@/postgres?host={folder}"
        finally:
            _run(account, folder, ctl, "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """Create an empty database on a server, and drop it at the end. Yields its URL."""
    name = f"run_{next(_NUMBERS)}"
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()


def _binaries() -> Path:
    """Return the folder with initdb and pg_ctl, the newest version first. Raises Unavailable."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        raise Unavailable("PostgreSQL: no initdb on this machine")
    return Path(on_path).resolve().parent


def _account() -> _Account:
    """Return an ordinary user if this one is root, as whom PostgreSQL refuses to run. Raises Unavailable."""
    if os.geteuid() != 0:
        return _Account((), None)
    if shutil.which("setpriv") is None:
        raise Unavailable("PostgreSQL: it does not run as root, and there is no setpriv to change the user")
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        ids = ("--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups")
        return _Account(("setpriv", *ids, "--"), user)
    raise Unavailable("PostgreSQL: it does not run as root, and there is no user postgres or nobody")


def _run(account: _Account, folder: Path, *command: str) -> None:
    """Run one of the server's commands. Raises Unavailable if it fails."""
    with (folder / "output").open("ab") as output:
        done = subprocess.run(
            [*account.prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=_TIMEOUT_S,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            check=False,
        )
    if done.returncode:
        reason = (folder / "output").read_text(errors="replace")[-500:]
        raise Unavailable(f"PostgreSQL: {Path(command[0]).name} failed: {reason}")
