"""`watcher check`: every part the daemon relies on, tried once and without side effects."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from watcher.cli.options import DEFAULT_CONFIG, Config, Json, Roles, load, print_json, role_overrides
from watcher.errors import FixConfiguration
from watcher.settings.model import Settings

if TYPE_CHECKING:
    from watcher.doctor.finding import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "wrong": "red"}


def check(config: Config = DEFAULT_CONFIG, role: Roles = None, as_json: Json = False) -> None:
    """Try settings, ledger, node, contract, API and hook, and say how to correct each problem.

    Sends nothing and leaves nothing behind; docs/check.md explains every line. Exit code 78 if a person must correct
    something, 69 if a node or the API cannot be reached, 0 if all lines are green or yellow.
    """
    from watcher.doctor.examine import exit_code
    from watcher.doctor.finding import Finding

    try:
        findings = asyncio.run(_examine(load(config, overrides=role_overrides(role)), config))
    except FixConfiguration as error:
        if as_json:  # beside the lines on stderr that every command prints
            _print([Finding("settings", "complete", "wrong", line, error.exit_code) for line in error.problems])
        raise
    if as_json:
        _print(findings)
    else:
        _show(findings)
    if code := exit_code(findings):
        raise typer.Exit(code)


async def _examine(settings: Settings, config: Path) -> "list[Finding]":
    from rich.text import Text

    from watcher.cli.console import PlainConsole
    from watcher.doctor.examine import Examination

    # Only a terminal shows the spinner.
    console = PlainConsole(to_stderr=True)
    with console.status(Text("checking")) as status:
        return await Examination(settings, lambda part: status.update(Text(f"checking: {part}")), config).run()


def _print(findings: "Sequence[Finding]") -> None:
    print_json(
        [
            {"what": finding.what, "verdict": finding.verdict, "words": finding.message, "check": finding.check}
            for finding in findings
        ]
    )


def _show(findings: "Sequence[Finding]") -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from watcher.cli.console import PlainConsole

    table = Table("what", "verdict", Column(overflow="fold"), title="check")
    for finding in findings:
        verdict = Text(finding.verdict, style=_COLOURS[finding.verdict])
        table.add_row(f"{finding.what}: {finding.check}", verdict, finding.message)
    PlainConsole().print(table)
