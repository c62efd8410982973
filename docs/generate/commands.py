"""`docs/commands.md`, made from the commands themselves. A pure function of the code."""

import inspect
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from watcher.cli.main import application

_INTRODUCTION = """\
# Commands

<!-- Written by `make docs`; change the commands in watcher/cli/ instead. -->

Data goes to stdout, logs and errors to stderr. Every listing has `--json`; its fields are an interface, and are only
ever added to.

| exit code | meaning | what to do |
|---|---|---|
| 0 | fine | nothing |
| 1 | a proof or a check failed, or a final block has changed | read what it names |
| 64 | the command line asks for something that cannot be done | see `--help` |
| 69 | no node, or not the API, can be reached | wait, or mend the endpoint |
| 70 | a bug of this program | report it with the last log lines |
| 75 | something is busy, or has not caught up yet | try again later |
| 78 | the configuration is wrong | mend what is listed; restarting does not help |
| 141 | nobody reads the output any more, as when `head` has enough of it | nothing |
"""


def commands_page() -> str:
    """`docs/commands.md`."""
    parts = [_INTRODUCTION]
    for path, command in _leaves("watcher", get_command(application())):
        parts += [f"## {path}", "", inspect.cleandoc(command.help or ""), ""]
        rows = [_row(param) for param in command.params if param.name != "help"]
        if rows:
            parts += ["| option | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(parts).rstrip() + "\n"


def _leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None or command.invoke_without_command:
        yield path, command
    for name, one in (inner or {}).items():
        yield from _leaves(f"{path} {name}", one)


def _row(param: Any) -> str:
    is_option = param.param_type_name == "option"
    name = (
        ", ".join(f"`{opt}`" for opt in (*param.opts, *param.secondary_opts))
        if is_option
        else f"`{param.name.upper()}`"
    )
    default = param.default
    shown = "" if default is None or default is False or default == "" else f"`{default}`"
    shown = "*required*" if param.required else shown
    env = f" From `{param.envvar}` too." if getattr(param, "envvar", None) else ""
    return f"| {name} | {shown} | {param.help or ''}{env} |"
