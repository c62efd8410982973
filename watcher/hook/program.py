"""Programs as hooks, `exec:PROGRAM ARGS`: a long-lived program that reads a task a line and writes a verdict a line.

The program is a child of a worker process (`watcher.hook.worker`), which gives it the sandbox, the limit of memory and
the clean environment, and whose supervisor kills it with all its children. Requests and replies (`watcher.hook.schema`)
have descriptors of their own, so that output cannot mix with them. Standard library only. Invariant: a reply counts
only for the request that it names; a program that is out of step takes no further task.
"""

import atexit
import fcntl
import os
import select
import signal
import struct
import sys
import termios
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from watcher.errors import FixConfiguration, TryLater
from watcher.hook import schema
from watcher.hook.command import Command, Stamp, read_command
from watcher.hook.load import Loaded, check_folder
from watcher.hook.protocol import Answer, ReplaceWorker
from watcher.hook.target import setting
from watcher.hook.values import Values
from watcher.hook.version import program_origin
from watcher.task import Task
from watcher.text import clean

REQUEST_FD, REPLY_FD = 3, 4

_FREE_FD = 10  # above the two
_START_S = 0.25  # A program that ends within this time cannot run at all.
_EXIT_GRACE_S = 1.0
_READ_BYTES = 65_536
# Failures of the system to start a process, which may pass.
_PASSING = (BlockingIOError, MemoryError, InterruptedError)


class Program:
    """A running program. Calling it with a task returns the checked answer."""

    def __init__(self, command: Command, answer_limit_bytes: int, values: Values) -> None:
        self._command = command
        self._values = values
        self._answer_limit_bytes = answer_limit_bytes
        self._limit_bytes = schema.reply_limit_bytes(answer_limit_bytes)
        self.new_files: Mapping[str, str] = {}
        self._stamps: Mapping[str, Stamp] = {}
        self._data = bytearray()
        self._written_bytes = 0  # of the last request
        self._pid = self._pidfd = self._requests = self._replies = -1
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
        if self._pid < 0 or self._is_noisy():
            self._restart()
        try:
            line = self._reply_line(request + b"\n")
            reply = schema.read_reply(line, request_id, self._answer_limit_bytes, self._values)
        except schema.BrokenReply as error:
            self.kill()
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
        self.kill()
        self._stamps = self._command.files()
        self.new_files = self._command.hashes()
        try:
            self._spawn()
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
        if not select.select([self._pidfd], [], [], _START_S)[0]:
            return
        status = self._reap()
        kind = TryLater if status == os.EX_TEMPFAIL else FixConfiguration
        raise kind(f"{setting(self._command.target)}: it must wait for tasks, and {_ended(status)} before the first")

    def take_new_files(self) -> Mapping[str, str]:
        """Return path and SHA-256 (hex) of the files of a start since the last call."""
        files, self.new_files = self.new_files, {}
        return files

    def stop(self) -> None:
        """End the program: close its requests, and kill it if it does not exit."""
        if self._pid >= 0:
            os.close(self._requests)
            self._requests = -1
            select.select([self._pidfd], [], [], _EXIT_GRACE_S)
            self.kill()

    def kill(self) -> None:
        """Kill the program, if it runs."""
        if self._pid >= 0:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._reap()

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
            self._write(request)
            return self._read_line()
        except OSError:
            if not self._is_unread():
                raise
        print("watcher: the program ended before it read a task; restarting it", file=sys.stderr)
        self._restart()
        self._write(request)
        return self._read_line()

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

    def _reap(self) -> int:
        """Wait for the end of the program. Return its exit code, or its signal as a negative number."""
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._close()
        return status

    def _spawn(self) -> None:
        their_requests, self._requests = _pipe()
        self._replies, their_replies = _pipe()
        self._data.clear()
        variables = {"HOOK_REQUEST_FD": str(REQUEST_FD), "HOOK_REPLY_FD": str(REPLY_FD)}
        try:
            self._pid = os.posix_spawn(
                self._command.path,
                self._command.args,
                os.environ | variables | {"HOOK_WIRE_VERSION": str(schema.VERSION)},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, their_requests, REQUEST_FD),
                    (os.POSIX_SPAWN_DUP2, their_replies, REPLY_FD),
                ],
                # Python ignores these, and an ignored signal stays ignored in a new program.
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
            self._pidfd = os.pidfd_open(self._pid)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(their_requests)
            os.close(their_replies)

    def _is_noisy(self) -> bool:
        """Return True if the program ended or wrote a reply that no request asked for. Empty lines do not count."""
        has_ended = bool(select.select([self._pidfd], [], [], 0)[0])
        while not has_ended and select.select([self._replies], [], [], 0)[0] and len(self._data) <= _READ_BYTES:
            part = os.read(self._replies, _READ_BYTES)
            has_ended = not part
            self._data += part
        is_noisy = has_ended or bool(self._data.strip())
        if is_noisy:
            print("watcher: the program ended, or wrote a line that no task asked for; restarting it", file=sys.stderr)
        self._data.clear()
        return is_noisy

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        self._written_bytes = 0
        while rest:
            count = os.write(self._requests, rest)
            self._written_bytes += count
            rest = rest[count:]

    def _is_unread(self) -> bool:
        """Return True if the pipe still holds every byte of the last request."""
        count = fcntl.ioctl(self._requests, termios.FIONREAD, bytes(struct.calcsize("i")))
        return not self._data and struct.unpack("i", count)[0] >= self._written_bytes

    def _read_line(self) -> bytes:
        """Return the next line that is not empty."""
        searched = 0
        while True:
            end = self._data.find(b"\n", searched)
            if end < 0:
                searched = len(self._data)
                self._read_part()
                continue
            line = bytes(self._data[:end]).strip()
            del self._data[: end + 1]
            searched = 0
            if line:
                return line

    def _read_part(self) -> None:
        if len(self._data) > self._limit_bytes:
            raise schema.BrokenReply(f"the hook's reply is longer than {self._limit_bytes:,} bytes")
        # A child of a program that has ended may hold the pipe open.
        part = b""
        if self._replies in select.select([self._replies, self._pidfd], [], [])[0]:
            part = os.read(self._replies, _READ_BYTES)
        if not part:
            raise ConnectionResetError("the program closed its replies")
        self._data += part

    def _end_reason(self) -> str:
        """Return why there is no reply, as the end of a sentence. Ends the program."""
        if select.select([self._pidfd], [], [], _EXIT_GRACE_S)[0]:
            return _ended(self._reap())
        self.kill()
        return "the program closed its requests or replies and was killed"

    def _close(self) -> None:
        for fd in (self._requests, self._replies, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self._pid = self._pidfd = self._requests = self._replies = -1


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


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe, clear of the descriptors that the program gets."""
    ends = os.pipe()
    try:
        return (
            fcntl.fcntl(ends[0], fcntl.F_DUPFD_CLOEXEC, _FREE_FD),
            fcntl.fcntl(ends[1], fcntl.F_DUPFD_CLOEXEC, _FREE_FD),
        )
    finally:
        for fd in ends:
            os.close(fd)


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
