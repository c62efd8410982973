"""A PostgreSQL server of our own for the tests: a socket in a private folder, no TCP port, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import URL

_USER = "watcher"
_TIMEOUT_S = 60


class NoServer(Exception):
    """There is no server to test against; the words say why."""


def find_binaries() -> Path:
    """The folder that holds initdb and pg_ctl, the newest one first."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        raise NoServer("no PostgreSQL here: set TEST_DATABASE_URL, or install the server's binaries")
    return Path(on_path).resolve().parent


def _as_somebody() -> tuple[list[str], pwd.struct_passwd | None]:
    """The words that start a command as an ordinary user: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return [], None
    if shutil.which("setpriv") is None:
        raise NoServer("PostgreSQL does not run as root, and setpriv is not here to become somebody else")
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        ids = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
        return ["setpriv", *ids, "--"], user
    raise NoServer("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")


@contextmanager
def running_server() -> Iterator[URL]:
    """Start a server and stop it again. Raises NoServer when that is not possible here."""
    binaries = find_binaries()
    prefix, user = _as_somebody()
    folder = Path(tempfile.mkdtemp(prefix="watcher-pg-"))
    data = folder / "data"

    def run(*command: str) -> None:
        with (folder / "output").open("ab") as output:
            done = subprocess.run(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=_TIMEOUT_S,
                cwd=folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                check=False,
            )
        if done.returncode != 0:
            tail = (folder / "output").read_text(errors="replace")[-500:]
            raise NoServer(f"{Path(command[0]).name} failed: {tail}")

    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        run(str(binaries / "initdb"), "-D", str(data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=60"
        ctl = str(binaries / "pg_ctl")
        run(ctl, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield URL.create("postgresql+psycopg", _USER, database="postgres", query={"host": str(folder)})
        finally:
            run(ctl, "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
