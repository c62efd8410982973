"""`watcher check`: everything the daemon relies on, tried once and without side effects."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Column, Table
from rich.text import Text

from watcher.cli.console import PlainConsole
from watcher.cli.options import DEFAULT_CONFIG, Config, Json, load, print_json
from watcher.errors import FixConfiguration
from watcher.settings.model import Settings

if TYPE_CHECKING:
    from watcher.doctor.finding import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "wrong": "red"}


def check(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Try settings, ledger, node, contract, API and hook, and say what to do about what is wrong.

    Sends nothing and leaves nothing behind; docs/check.md explains every line. Exit code 78 when something is to be
    mended, 69 when a node or the API cannot be reached, 0 when all is green or yellow.
    """
    from watcher.doctor.examine import exit_code
    from watcher.doctor.finding import Finding

    try:
        findings = asyncio.run(_examine(load(config), config))
    except FixConfiguration as wrong:
        if as_json:  # beside the lines on stderr that every command has for it
            _print([Finding("settings", "complete", "wrong", one, wrong.exit_code) for one in wrong.problems])
        raise
    if as_json:
        _print(findings)
    else:
        _show(findings)
    if code := exit_code(findings):
        raise typer.Exit(code)


async def _examine(settings: Settings, config: Path) -> "list[Finding]":
    from watcher.doctor.examine import Examination

    # On a terminal only: elsewhere a spinner is noise.
    console = PlainConsole(to_stderr=True)
    with console.status(Text("looking")) as status:
        return await Examination(settings, lambda what: status.update(Text(f"looking at: {what}")), config).run()


def _print(findings: "list[Finding]") -> None:
    print_json([{"what": one.what, "verdict": one.verdict, "words": one.words, "check": one.check} for one in findings])


def _show(findings: "list[Finding]") -> None:
    table = Table("what", "verdict", Column(overflow="fold"), title="check")
    for one in findings:
        table.add_row(f"{one.what}: {one.check}", Text(one.verdict, style=_COLOURS[one.verdict]), one.words)
    PlainConsole().print(table)
