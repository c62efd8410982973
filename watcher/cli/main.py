"""The command line: the commands, and the exit code of each error.

Invariant: data goes to stdout, everything else to stderr; an error of ours is a sentence and its own exit code, never a
traceback; a line loads the file of its own command alone, and heavy imports (alembic, aiohttp, rich) happen inside the
commands that need them.
"""

import errno
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from loguru import logger
from typer.exceptions import TyperException

from watcher.cli.avs import of_all, of_one
from watcher.cli.options import CONFIG_VARIABLE
from watcher.daemon import log
from watcher.errors import FixConfiguration, TryLater, WatcherError
from watcher.files import program_version
from watcher.text import escape

_BUG = 70
_USAGE = 64
_INTERRUPTED = 130
_UNREAD = 141  # what a shell makes of SIGPIPE
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})

# The commands in the order of the help: the name of the file, and the function or the group of commands in it.
_COMMANDS = {
    "demo": "demo",
    "devnet": "app",
    "dev": "dev",
    "init": "init",
    "check": "check",
    "run": "run",
    "tasks": "app",
    "top": "top",
    "explain": "explain",
    "prove": "prove",
    "report": "report",
    "replay": "replay_command",
    "audit": "app",
    "hook": "app",
    "shadow": "app",
    "db": "app",
    "alert": "app",
    "systemd": "app",
}
# The commands that take one AVS of several, or all of them.
_OF_AVS = {
    "check": of_all,
    "top": of_all,
    "explain": of_one,
    "prove": of_all,
    "report": of_all,
    "replay": of_one,
}


def application(names: Iterable[str] = _COMMANDS) -> typer.Typer:
    """Return the command line with these commands. Each loads its own file, and what that imports."""
    app = typer.Typer(name="watcher", no_args_is_help=True, pretty_exceptions_enable=False)
    for name in names:
        command = getattr(import_module(f"watcher.cli.{name}"), _COMMANDS[name])
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(_OF_AVS[name](command) if name in _OF_AVS else command)
    app.callback()(watcher)
    app.command("version")(print_version)
    return app


def load_command(arguments: Sequence[str]) -> None:
    """Import the file of the command that a line names, of all where it names none."""
    for name in _named(arguments):
        import_module(f"watcher.cli.{name}")


def _print_version_and_end(is_asked: bool) -> None:
    if is_asked:
        print_version()
        raise typer.Exit


def watcher(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The settings, for any command; default ./watcher.toml.")
    ] = None,
    version: Annotated[  # noqa: ARG001  its callback ends the command
        bool, typer.Option("--version", callback=_print_version_and_end, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Answers every task of an AVS on AltLayer's hosted operator exactly once, and proves it."""
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)  # the default of each command's own --config


def print_version() -> None:
    """Print the version."""
    typer.echo(program_version())


def run(arguments: Sequence[str]) -> int:
    """Run one command line. Return the exit code, by sysexits.h; 141 if the reader of its output is gone."""
    log.set_up()  # first of all: loguru's own set-up shows the values of variables
    if sys.stdout is None:  # the parent process closed it
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the program ends
    try:
        code = _outcome(arguments)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # typer exits with 1 then, which here is a failed proof
        code = _UNREAD
    except OSError as error:
        print(f"watcher: the output cannot be written: {error.strerror}", file=sys.stderr)
        code = TryLater.exit_code
    else:
        return code
    # Python flushes the rest of the buffer at its end, and must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


def _named(arguments: Sequence[str]) -> Iterable[str]:
    """Return the command that a line names; all where it names none, as for the help."""
    remaining = iter(arguments)
    for word in remaining:
        if word in ("--config", "-c"):
            next(remaining, None)
        elif not word.startswith("-"):
            return [word] if word in _COMMANDS else _COMMANDS
        elif not word.startswith(("--config=", "-c")):
            break
    return _COMMANDS


def _outcome(arguments: Sequence[str]) -> int:
    try:
        app = application(_named(arguments))
        result = app(args=list(arguments) or ["--help"], prog_name="watcher", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except WatcherError as error:
        for line in str(error).splitlines() or [type(error).__name__]:
            print(f"watcher: {escape(line)}", file=sys.stderr)
        return error.exit_code
    except typer.Exit as exit_:
        return exit_.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        if message:  # a group without a command has printed its help instead
            print(f"watcher: {escape(message)}", file=sys.stderr)
            print("watcher: see `watcher --help` and `watcher COMMAND --help`", file=sys.stderr)
        return _USAGE
    except PermissionError as error:
        name = escape(str(error.filename or "a file"))
        print(f"watcher: {name} is closed to this user; open it and its folders, or run as its owner", file=sys.stderr)
        return FixConfiguration.exit_code
    except Exception as error:  # the last place that can report a bug of ours
        if isinstance(error, OSError) and (error.errno == errno.EPIPE or error.errno in _NO_ROOM):
            raise
        logger.exception("daemon.bug: an unexpected error; please report it with this line")
        return _BUG
