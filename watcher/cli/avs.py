"""The option `--avs` of every command that reads settings, and commands that run for all AVSs one after the other."""

import inspect
import io
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, get_type_hints

import typer
from loguru import logger

from watcher.cli import options
from watcher.errors import FixConfiguration, FixUsage, WatcherError
from watcher.settings.avs import read_files
from watcher.text import escape

P = ParamSpec("P")

_NAMED = Annotated[
    str | None,
    typer.Option("--avs", envvar=options.AVS_VARIABLE, help="The AVS, where the settings have several."),
]
_NAMED_OR_ALL = Annotated[
    str | None,
    typer.Option(
        "--avs", envvar=options.AVS_VARIABLE, help="The AVS, where the settings have several; all, if left out."
    ),
]
# What holds the output of one AVS alone, or the whole screen.
_FOR_ONE = {"as_csv": "--csv", "html": "--html", "watch": "--watch"}


def of_one(command: Callable[P, None]) -> Callable[..., None]:
    """Return a command with the option `--avs`, which is required where the settings have several AVSs."""
    return _with_option(command, _NAMED, _run_one)


def of_all(command: Callable[P, None]) -> Callable[..., None]:
    """Return a command with the option `--avs`; without it, the command runs for each AVS of the settings.

    With `--json` it then prints one list: each object of each AVS, with the name of the AVS in the field `avs`.
    """
    return _with_option(command, _NAMED_OR_ALL, _run_all)


def _with_option(
    command: Callable[..., None], option: object, run: Callable[[Callable[[], None], str | None, dict[str, Any]], None]
) -> Callable[..., None]:
    @wraps(command)
    def with_avs(*, avs: str | None = None, **values: Any) -> None:
        run(partial(command, **values), avs, values)

    # typer reads the options from the signature.
    before = inspect.signature(command)
    own = inspect.Parameter("avs", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
    keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in before.parameters.values()]
    with_avs.__signature__ = before.replace(parameters=[*keywords, own])  # type: ignore[attr-defined]
    with_avs.__annotations__ = {**get_type_hints(command, include_extras=True), "avs": option}
    del with_avs.__wrapped__
    return with_avs


def _run_one(command: Callable[[], None], avs: str | None, _values: dict[str, Any]) -> None:
    with options.choosing(avs):
        command()


def _run_all(command: Callable[[], None], avs: str | None, values: dict[str, Any]) -> None:
    names = [] if avs is not None or values.get("ledger_file") is not None else _names(values["config"])
    if len(names) < 2:
        _run_one(command, avs, values)
        return
    for field, option in _FOR_ONE.items():
        if values.get(field):
            raise FixUsage(f"{option} is for one AVS; name it with --avs: {', '.join(names[:20])}")
    codes = _each_as_json(command, names) if values.get("as_json") else [_try(command, name) for name in names]
    wrong = [code for code in codes if code]
    if wrong:
        raise typer.Exit(FixConfiguration.exit_code if FixConfiguration.exit_code in wrong else wrong[0])


def _names(config: Path) -> Sequence[str]:
    try:
        return [each.name for each in read_files(config).avss]
    except FixConfiguration:
        return ()  # the command says what is wrong with it


def _try(command: Callable[[], None], name: str) -> int:
    """Run a command for one AVS below a heading. Return its exit code."""
    if not isinstance(sys.stdout, io.StringIO):
        typer.echo(f"== {name}")
        sys.stdout.flush()
    try:
        with options.choosing(name), logger.contextualize(avs=name):
            command()
    except typer.Exit as error:
        return error.exit_code
    except WatcherError as error:
        for line in str(error).splitlines() or [type(error).__name__]:
            print(f"watcher: {name}: {escape(line.removeprefix(f'{name}: '))}", file=sys.stderr)
        return error.exit_code
    return 0


def _each_as_json(command: Callable[[], None], names: Sequence[str]) -> list[int]:
    """Run a command for each AVS and print one list of all its objects. Return the exit codes."""
    codes: list[int] = []
    separator = "[\n"
    for name in names:
        printed = io.StringIO()
        with redirect_stdout(printed):
            codes.append(_try(command, name))
        document = json.loads(printed.getvalue() or "[]")
        for each in document if isinstance(document, list) else [document]:
            sys.stdout.write(separator + json.dumps({"avs": name, **each}, indent=2))
            separator = ",\n"
    sys.stdout.write(("[" if separator == "[\n" else "") + "\n]\n")
    return codes
