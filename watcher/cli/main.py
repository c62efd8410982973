"""The command line: the commands, and the exit code of each error.

Invariant: data goes to stdout, everything else to stderr; an error of ours is a sentence and its own exit code, never a
traceback; heavy imports (alembic, aiohttp, rich) happen inside the commands that need them.
"""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from loguru import logger
from typer.exceptions import TyperException

from watcher.cli import (
    alert,
    audit,
    check,
    db,
    demo,
    dev,
    devnet,
    explain,
    hook,
    init,
    prove,
    replay,
    report,
    shadow,
    systemd,
    tasks,
)
from watcher.cli import run as running
from watcher.cli import top as live_top
from watcher.cli.avs import of_all, of_one
from watcher.cli.options import CONFIG_VARIABLE
from watcher.daemon import log
from watcher.errors import TryLater, WatcherError
from watcher.files import program_version
from watcher.text import escape

_BUG = 70
_USAGE = 64
_INTERRUPTED = 130
_UNREAD = 141  # what a shell makes of SIGPIPE
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})

app = typer.Typer(
    name="watcher",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.add_typer(devnet.app, name="devnet")
app.command("dev")(dev.dev)
app.command("init")(init.init)
app.command("check")(of_all(check.check))
app.command("run")(running.run)
app.add_typer(tasks.app, name="tasks")
app.command("top")(of_all(live_top.top))
app.command("explain")(of_one(explain.explain))
app.command("prove")(of_all(prove.prove))
app.command("report")(of_all(report.report))
app.command("replay")(of_one(replay.replay_command))
app.add_typer(audit.app, name="audit")
app.add_typer(hook.app, name="hook")
app.add_typer(shadow.app, name="shadow")
app.add_typer(db.app, name="db")
app.add_typer(alert.app, name="alert")
app.add_typer(systemd.app, name="systemd")


@app.callback()
def watcher(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The settings, for any command; default ./watcher.toml.")
    ] = None,
) -> None:
    """Answers every task of an AVS on AltLayer's hosted operator exactly once, and proves it."""
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)  # the default of each command's own --config


@app.command("version")
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


def _outcome(arguments: Sequence[str]) -> int:
    try:
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
    except Exception as error:  # the last place that can report a bug of ours
        if isinstance(error, OSError) and (error.errno == errno.EPIPE or error.errno in _NO_ROOM):
            raise
        logger.exception("daemon.bug: an unexpected error; please report it with this line")
        return _BUG
