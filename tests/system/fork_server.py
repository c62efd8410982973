"""Processes of the watcher, forked from one that has imported it.

An import costs a second of CPU, and the system tests start some three hundred processes. A forked process runs the
program's own `main` in its own session, with the arguments, environment, folder and descriptors of its request. Python
and the libraries read variables of the environment when they are imported: a process for which `may_fork` finds one
that differs from the server's needs an interpreter of its own.
"""

import asyncio
import faulthandler
import gc
import importlib
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

# What a daemon loads until it is ready, and nothing that it does not: a test lists the packages that it must not load.
_IMPORTS = ("watcher.cli.main", "watcher.cli.run", "watcher.daemon.daemon", "sqlalchemy.dialects.sqlite")
_VARIABLES = frozenset({"PATH", "HOME", "COLUMNS", "NOTIFY_SOCKET", "WATCHDOG_USEC", "PYTHONFAULTHANDLER"})
_PREFIXES = ("WATCHER_", "PYTEST_")
_REQUEST_LIMIT_BYTES = 100_000
# The server's own: a test may change those of its process later.
_IMPORTED_WITH = {name: value for name, value in os.environ.items() if not name.startswith("WATCHER_")}


def may_fork(environment: Mapping[str, str]) -> bool:
    """Return True if no variable matters to what was imported before it was set."""
    return all(
        name in _VARIABLES or name.startswith(_PREFIXES) or _IMPORTED_WITH.get(name) == value
        for name, value in environment.items()
    )


class Forked:
    """A process of the server, with the part of `asyncio.subprocess.Process` that tests use."""

    def __init__(self, pid: int, exits: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._writer = writer
        self._exit = asyncio.ensure_future(self._follow(exits))

    async def _follow(self, exits: asyncio.StreamReader) -> int:
        line = await exits.readline()
        assert line, "the server that forks the daemons has ended"
        self.returncode = int(line)
        self._writer.close()
        return self.returncode

    async def wait(self) -> int:
        """Return the exit code, which is negative for a signal."""
        return await asyncio.shield(self._exit)

    async def communicate(self) -> tuple[bytes, bytes]:
        """Read what is left of stdout and stderr, and wait for the end. For a process with pipes."""
        assert self.stdout is not None and self.stderr is not None
        out, err, _ = await asyncio.gather(self.stdout.read(), self.stderr.read(), self.wait())
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless the process has ended."""
        self.send_signal(9)


async def fork(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, output: int, errors: int | None = None
) -> Forked:
    """Start `watcher` with these arguments. Its stdout goes to `output`, its stderr to `errors` or, without, there too.

    Both are descriptors, which stay open here.
    """
    mine, theirs = socket.socketpair()
    request = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}
    with theirs:
        descriptors = [output, output if errors is None else errors, theirs.fileno()]
        socket.send_fds(_server(), [json.dumps(request).encode()], descriptors)
    exits, writer = await asyncio.open_unix_connection(sock=mine)
    return Forked(int(await exits.readline()), exits, writer)


async def fork_with_pipes(arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Forked:
    """Start `watcher` with these arguments; its stdout and stderr can be read."""
    with ExitStack() as ends:
        readers, descriptors = [], []
        for _ in range(2):
            ours, theirs = os.pipe()
            ends.callback(os.close, theirs)
            descriptors.append(theirs)
            readers.append(await _reader(ours))
        forked = await fork(arguments, environment, folder, *descriptors)
    forked.stdout, forked.stderr = readers
    return forked


async def _reader(descriptor: int) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0))
    return reader


@cache
def _server() -> socket.socket:
    """Start the server, once for each process of the tests. It ends with the connection to it."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=_IMPORTED_WITH,
            start_new_session=True,
        )
    return mine


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Return the request in a forked process, and None at the end of the server."""
    with selectors.DefaultSelector() as ready:
        ready.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is not control:
                    _report_exit(ready, key)
                elif (request := _fork(ready, control)) is None or "arguments" in request:
                    return request


def _fork(ready: selectors.BaseSelector, control: socket.socket) -> dict[str, Any] | None:
    """Read a request and fork. Return it in the forked process, {} in the server, and None at the end."""
    content, descriptors, _, _ = socket.recv_fds(control, _REQUEST_LIMIT_BYTES, 3)
    if not content:
        return None
    output, errors, exits = descriptors
    if pid := os.fork():
        os.close(output)
        os.close(errors)
        ready.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, exits))
        return {}
    request: dict[str, Any] = json.loads(content)
    os.setsid()
    os.write(exits, b"%d\n" % os.getpid())  # whoever reads it may signal the whole session
    _become(request, output, errors)
    return request


def _report_exit(ready: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    pid, exits = key.data
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    ready.unregister(key.fileobj)
    os.close(key.fd)
    try:
        os.write(exits, b"%d\n" % code)
    except BrokenPipeError:
        pass  # the test has ended and does not ask
    os.close(exits)


def _become(request: Mapping[str, Any], output: int, errors: int) -> None:
    """Take the descriptors, folder, environment and arguments of a new process."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.closerange(3, 1024)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [str(Path(sys.argv[0])), *request["arguments"]]
    sys.path[0] = request["folder"]
    if os.environ.get("PYTHONFAULTHANDLER"):
        faulthandler.enable()


def _main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    for name in _IMPORTS:
        importlib.import_module(name)
    importlib.import_module("watcher.cli.main").load_command([])  # every command is forked from here, too
    assert threading.active_count() == 1, "a thread does not survive a fork"
    gc.collect()
    gc.freeze()
    if _serve(control) is not None:
        control.detach()  # the descriptor is closed, and its number may be another file's
        from watcher.__main__ import main

        main()


if __name__ == "__main__":
    _main()
