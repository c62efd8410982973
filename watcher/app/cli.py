"""The command line: which commands there are, and how an error leaves the program.

Invariant: data goes to stdout, everything else to stderr; an error of ours is words and its own exit code, never a
traceback; heavy imports (web3, alembic) happen inside the commands that need them.
"""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from loguru import logger
from typer.exceptions import TyperException

from watcher.app import log
from watcher.app.commands import alert, check, db, demo, devnet, hook, init, prove, systemd, tasks
from watcher.app.commands import run as running
from watcher.app.options import CONFIG_VARIABLE
from watcher.errors import WatcherError
from watcher.redact import escape

_BUG = 70
_USAGE = 64
_INTERRUPTED = 130

app = typer.Typer(
    name="watcher",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("devnet")(devnet.devnet)
app.command("init")(init.init)
app.command("check")(check.check)
app.command("run")(running.run)
app.add_typer(tasks.app, name="tasks")
app.command("prove")(prove.prove)
app.add_typer(hook.app, name="hook")
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
        os.environ[CONFIG_VARIABLE] = str(config)  # where the commands look when they are not told themselves


@app.command("version")
def print_version() -> None:
    """Print the version."""
    typer.echo(version("avs-task-watcher"))


def run(arguments: Sequence[str]) -> int:
    """Run one command line. Returns the exit code, by sysexits.h."""
    log.set_up()  # before anything can go wrong: loguru's own set-up shows the values of variables
    try:
        result = app(args=list(arguments) or ["--help"], prog_name="watcher", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except WatcherError as error:
        for line in str(error).splitlines() or [type(error).__name__]:
            print(f"watcher: {escape(line)}", file=sys.stderr)
        return error.exit_code
    except typer.Exit as leaving:
        return leaving.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except TyperException as wrong:
        words = getattr(wrong, "format_message", wrong.__str__)()
        if words:  # a group without a command has printed its help instead
            print(f"watcher: {escape(words)}", file=sys.stderr)
            print("watcher: `watcher --help` and `watcher COMMAND --help` show what there is", file=sys.stderr)
        return _USAGE
    except Exception:  # noqa: BLE001 - the last place that can turn a bug of ours into words
        logger.exception("this is a bug; please report it with the lines above")
        return _BUG
