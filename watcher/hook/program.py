"""Programs as hooks, `exec:PROGRAM ARGS`: a long-lived program that reads a task a line and writes a verdict a line.

The program is a child of a worker process (`watcher.hook.worker`), which gives it the sandbox, the limit of memory and
the clean environment, and whose supervisor kills it with all its children. `watcher.hook.schema` has requests and
replies. Standard library only. Invariant: a reply counts only for the request that it names; a program that is out of
step takes no further task.
"""

import atexit
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from watcher.errors import FixConfiguration, TryLater
from watcher.hook import schema
from watcher.hook.child import Child
from watcher.hook.command import Command, Stamp, read_command
from watcher.hook.load import Loaded, check_folder
from watcher.hook.protocol import Answer, ReplaceWorker
from watcher.hook.target import setting
from watcher.hook.values import Values
from watcher.hook.version import program_origin
from watcher.task import Task
from watcher.text import clean

_START_S = 0.25  # A program that ends within this time cannot run at all.
_EXIT_GRACE_S = 1.0
# Failures of the system to start a process, which may pass.
_PASSING = (BlockingIOError, MemoryError, InterruptedError)


class Program:
    """A running program. Calling it with a task returns the checked answer."""

    def __init__(self, command: Command, answer_limit_bytes: int, values: Values) -> None:
        self._command = command
        self._values = values
        self._answer_limit_bytes = answer_limit_bytes
        self._child = Child(schema.reply_limit_bytes(answer_limit_bytes))
        self.new_files: Mapping[str, str] = {}
        self._stamps: Mapping[str, Stamp] = {}
        atexit.register(self.stop)

    def __call__(self, task: Task) -> Answer:
        """Return the answer to a task.

        Raises:
            AttemptFailed: the message does not decode, or the program's verdict is a failure or does not keep the
                contract.
            ReplaceWorker: the program ended, or is out of step.
        """
        request_id = schema.new_id()
        request = schema.write_request(request_id, task, self._values)
        if not self._child.runs or self._is_noisy():
            self._restart()
        try:
            line = self._reply_line(request + b"\n")
            reply = schema.read_reply(line, request_id, self._answer_limit_bytes, self._values)
        except schema.BrokenReply as error:
            self._child.kill()
            raise ReplaceWorker(f"{error}; the program was killed") from None
        except OSError:
            raise ReplaceWorker(f"while the hook ran, {self._end_reason()}") from None
        self._check_files()
        return reply.answer

    def start(self) -> None:
        """Start the program, in place of one that runs.

        Raises:
            FixConfiguration: it cannot be started.
            TryLater: it cannot be started now.
        """
        self._child.kill()
        self._stamps = self._command.files()
        self.new_files = self._command.hashes()
        try:
            self._child.start(self._command.path, self._command.args)
        except _PASSING as error:
            raise TryLater(f"{setting(self._command.target)}: the system cannot start it: {error}") from None
        except OSError as error:
            path = clean(self._command.path)
            raise FixConfiguration(
                f"{setting(self._command.target)}: the system cannot run {path}: {_why(error)}"
            ) from None

    def check_alive(self) -> None:
        """Wait a moment, and check that the program still runs.

        Raises:
            FixConfiguration: it ended.
            TryLater: it ended with exit code 75, the code for a failure that may pass (EX_TEMPFAIL, sysexits.h).
        """
        if not self._child.has_ended(_START_S):
            return
        status = self._child.reap()
        kind = TryLater if status == os.EX_TEMPFAIL else FixConfiguration
        raise kind(f"{setting(self._command.target)}: it must wait for tasks, and {_ended(status)} before the first")

    def take_new_files(self) -> Mapping[str, str]:
        """Return path and SHA-256 (hex) of the files of a start since the last call."""
        files, self.new_files = self.new_files, {}
        return files

    def stop(self) -> None:
        """End the program: close its requests, and kill it if it does not exit."""
        self._child.stop(_EXIT_GRACE_S)

    def _is_noisy(self) -> bool:
        """Return True if the program ended or wrote a reply that no request asked for."""
        if self._child.is_quiet():
            return False
        print("watcher: the program ended, or wrote a line that no task asked for; restarting it", file=sys.stderr)
        return True

    def _restart(self) -> None:
        try:
            self.start()
        except (FixConfiguration, TryLater) as error:
            raise ReplaceWorker(str(error)) from None

    def _reply_line(self, request: bytes) -> bytes:
        """Send a request, and return the line of its reply.

        A program that ended, or closed its requests, after an earlier task has not read this one: a new one gets it.

        Raises:
            OSError: the program ended, or closed its requests or replies.
            BrokenReply: the line is too long.
        """
        try:
            self._child.write(request)
            return self._child.read_line()
        except OSError:
            if not self._child.has_read_nothing():
                raise
        print("watcher: the program ended before it read a task; restarting it", file=sys.stderr)
        self._restart()
        self._child.write(request)
        return self._child.read_line()

    def _check_files(self) -> None:
        """Hash the files again if they changed between the start and the first reply: the program may have read either.

        Other hashes than those of the start make the daemon drop the answer (`watcher.hook.code`).
        """
        before, self._stamps = self._stamps, {}
        if not before or before == self._command.files():
            return
        try:
            self.new_files = self._command.hashes()
        except FixConfiguration as error:
            raise ReplaceWorker(str(error)) from None

    def _end_reason(self) -> str:
        """Return why there is no reply, as the end of a sentence. Ends the program."""
        if self._child.has_ended(_EXIT_GRACE_S):
            return _ended(self._child.reap())
        self._child.kill()
        return "the program closed its requests or replies and was killed"


def load_program(target: str, app_dir: str, answer_limit_bytes: int, values: Values) -> Loaded:
    """Start the program of a target, with `app_dir` as its current folder.

    Args:
        target: the setting, `exec:PROGRAM ARGS`.
        app_dir: the folder of the hook.
        answer_limit_bytes: the longest answer.
        values: decodes the messages and encodes the answers.

    Raises:
        FixConfiguration: the program cannot run.
        TryLater: it cannot run now.
    """
    home = Path(app_dir).absolute()
    check_folder(home)
    os.chdir(home)
    command = read_command(target)
    program = Program(command, answer_limit_bytes, values)
    program.start()
    program.check_alive()
    hashes = program.new_files
    version = command.version(hashes)
    return Loaded(program, version, False, program.take_new_files, lambda: program_origin(version, hashes, home))


def _ended(status: int) -> str:
    if status >= 0:
        return f"the program ended with exit code {status}"
    try:
        return f"the program was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"the program was killed by signal {-status}"


def _why(error: OSError) -> str:
    """Return the reason of the system, with the cause that it hides."""
    if isinstance(error, FileNotFoundError):
        return "the interpreter of its first line (#!) does not exist"
    if isinstance(error, PermissionError):
        return "permission denied (a file system mounted noexec, or closed to the hook)"
    return error.strerror or "the system gave no reason"
