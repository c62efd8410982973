"""One point: a victim forked from a warm process, strace at one of its threads, and the lives after it.

strace counts the calls of the one thread it is attached to, so that K is exact. A forked victim costs a tenth of what
a new interpreter would: nothing is imported again.
"""

import gc
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.killpoints import ground, verdict
from tests.killpoints.api import Api
from tests.killpoints.victim import BUG, RESTART, Memory, run, settings_of
from watcher.ledger import schema
from watcher.ledger.engine import parse_url

CALLS = ("pwrite64", "fdatasync", "fsync", "write", "sendto", "sendmsg", "unlink", "ftruncate", "rename")
_LIFE_LIMIT_S = 60.0
_LIVES_LIMIT = 5
_BLOCK_S = 0.05


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """`thread` is main or writer; `act` what strace is told to do at the call; `number` counts from 1."""

    thread: str
    call: str
    act: str  # KILL, or an error, once or from there on ("ENOSPC", "ENOSPC x20")
    number: int

    @property
    def kind(self) -> tuple[str, str, str]:
        return self.thread, self.call, self.act

    @property
    def inject(self) -> str:
        if self.act == "KILL":
            return f"{self.call}:signal=SIGKILL:when={self.number}"
        error, _, times = self.act.partition(" x")
        return f"{self.call}:error={error}:when={self.number}" + (f"..{self.number + int(times) - 1}" if times else "")

    def __str__(self) -> str:
        return f"{self.thread} {self.call} {self.act} {self.number}"


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a point. `struck`: the call was reached."""

    point: Point
    struck: bool
    lives: int
    wrongs: tuple[str, ...]


class Rig:
    """Makes one run after the other below `folder`. The process must have one thread: it forks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._api = Api()
        self._memory = Memory()
        self._settings = settings_of(self._api.port)
        self._template = folder / "template.db"
        schema.upgrade(parse_url(f"sqlite:///{self._template}"))
        gc.freeze()  # a collection in a victim would copy every page it shares with this process

    def count(self) -> dict[tuple[str, str], int]:
        """How often each thread calls what in a run that nobody disturbs."""
        counted: dict[tuple[str, str], int] = {}
        for thread in ("main", "writer"):
            folder = self._begin("count")
            code, output = self._life(folder, thread, ["-e", f"trace={','.join(CALLS)}"])
            assert code == 0, f"a run that nobody disturbed ended with {code}: {self._bug(folder)}"
            assert not (wrongs := verdict.ended(folder) + self._api.wrongs), wrongs
            for call in re.findall(r"^(\w+)\(", output, re.MULTILINE):
                counted[thread, call] = counted.get((thread, call), 0) + 1
        return counted

    def try_out(self, point: Point) -> Trial:
        """Strike at the point, then let others live until all is done."""
        folder = self._begin("run")
        wrongs: list[str] = []
        code, output = self._life(folder, point.thread, ["-e", f"trace={point.call}", "-e", f"inject={point.inject}"])
        struck = "(INJECTED)" in output or "killed by SIGKILL" in output
        lives = 1
        while True:
            wrongs += verdict.kept(folder, self._memory.acknowledged())
            if code == BUG:
                wrongs.append(f"the daemon ended: {self._bug(folder)}")
            if code == 0 or lives == _LIVES_LIMIT:
                break
            if code not in (RESTART, BUG, -signal.SIGKILL):
                wrongs.append(f"the daemon ended with {code}")
            code, _ = self._life(folder, None, [])
            lives += 1
        if code != 0:
            wrongs.append(f"life {lives} ended with {code}")
        else:
            wrongs += verdict.ended(folder)
        return Trial(point, struck, lives, (*wrongs, *self._api.wrongs))

    def _begin(self, name: str) -> Path:
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(self._template, folder / "ledger.db")
        ground.begin(folder)
        self._memory.clear()
        self._api.turn_to(folder)
        return folder

    def _bug(self, folder: Path) -> str:
        path = folder / "bug.txt"
        return path.read_text().strip()[-1500:] if path.exists() else "no word"

    def _life(self, folder: Path, thread: str | None, options: list[str]) -> tuple[int, str]:
        """Fork a victim and serve it until it ends. Returns its exit code (negative: a signal) and strace's words."""
        gate, gate_key = os.pipe()
        self._memory.thread = 0
        pid = os.fork()
        if pid == 0:
            code = BUG
            try:
                os.close(gate_key)
                self._api.forked()
                code = run(
                    folder, self._settings, self._memory, thread == "main", self._wait_at(gate) if thread else None
                )
            finally:
                os._exit(code)
        os.close(gate)
        tracer = None
        try:
            if thread is not None:
                tracer = self._attach(options)
                os.write(gate_key, b"!")
            code = self._serve(pid)
        finally:
            os.close(gate_key)
            self._api.hang_up()
        if tracer is None:
            return code, ""
        tracer.communicate(timeout=10)
        return code, (self._folder / "trace").read_text(errors="replace")

    def _wait_at(self, gate: int) -> Callable[[], None]:
        def wait() -> None:
            self._memory.thread = threading.get_native_id()
            os.read(gate, 1)

        return wait

    def _attach(self, options: list[str]) -> subprocess.Popen[str]:
        stops_at_s = time.monotonic() + 20
        while (tid := self._memory.thread) == 0:
            assert time.monotonic() < stops_at_s, "nobody came to the gate"
            self._api.step(0.001)
        # Without -f: the other threads run at full speed, and their calls are not counted.
        tracer = subprocess.Popen(
            # Its lines into a file: nobody reads a pipe meanwhile, and a full one would stop the victim.
            ["strace", "-s", "0", "-o", str(self._folder / "trace"), "-p", str(tid), *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        assert "attached" in line, line
        return tracer

    def _serve(self, pid: int) -> int:
        began_s = mined_s = time.monotonic()
        while True:
            self._api.step(0.005)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            now_s = time.monotonic()
            if now_s - mined_s > _BLOCK_S:
                self._api.mine()
                mined_s = now_s
            if now_s - began_s > _LIFE_LIMIT_S:
                os.kill(pid, signal.SIGABRT)
                os.waitpid(pid, 0)
                return -signal.SIGABRT
