"""`watcher hook try`: run the hook on one task and send nothing."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from watcher.cli.avs import of_one
from watcher.cli.options import DEFAULT_CONFIG, Config, Json, print_json
from watcher.cli.trial_task import Choice, message_payload, read_arguments, settings_and_task
from watcher.errors import WatcherError
from watcher.report.payload import value_text
from watcher.text import escape

app = typer.Typer(help="Try the hook.", no_args_is_help=True)

_MIB = 1 << 20
_WIDTH = 12


@app.callback()
def hook() -> None:
    """Try the hook."""


@app.command("try")
@of_one
def try_(
    index: Annotated[
        str | None,
        typer.Argument(metavar="[TARGET] [INDEX]", help="The hook, by default hook.target; a task of the ledger."),
    ] = None,
    values: Annotated[list[str] | None, typer.Argument(metavar="[VALUES]...", help="The values for --abi.")] = None,
    config: Config = DEFAULT_CONFIG,
    message: Annotated[str | None, typer.Option(help="Or a sample task with this message (0x hex).")] = None,
    abi: Annotated[
        str | None,
        typer.Option(metavar="TYPES", help="Or with these VALUES as its message: '(uint256,address)' 21 0x…"),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Or a task as `tasks list --json` prints it; of several the one with INDEX.")
    ] = None,
    chain: Annotated[
        bool, typer.Option("--chain/--from-ledger", help="Read the task from the contract's logs, without a ledger.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the hook on one task in a worker process, as the daemon would. Sends and records nothing.

    Shows verdict, time, memory, output and traceback. A sample task needs a TARGET or hook.target in the
    settings, and nothing else. Exit code 0 for an answer, Later or Skip; 1 if the run failed.
    """
    arguments = [*([] if index is None else [index]), *(values or [])]
    target, choice = read_arguments(arguments, Choice(chain=chain, message=message, file=file, abi=abi))
    settings, task = settings_and_task(config, target, choice)

    from watcher.cli.trial import try_once
    from watcher.daemon import parts
    from watcher.daemon.decoder import decoder_of

    hidden = parts.hidden_paths(settings.ledger, config, os.environ)
    log = parts.log_output if as_json else lambda _task, _line: None
    decoder = decoder_of(settings)
    trial = asyncio.run(try_once(settings, hidden, task, decoder, log))
    fields = trial.as_json(message_payload(task, choice, decoder), decoder)
    if as_json:
        print_json(fields)
    elif trial.exit_code in (0, 1) or trial.output or fields["traceback"]:
        _print(fields)
    if isinstance(trial.result, WatcherError) and trial.exit_code != 1:
        raise trial.result
    if trial.exit_code:
        raise typer.Exit(trial.exit_code)


def _print(fields: dict[str, Any]) -> None:
    """Print a trial for a person: the verdict first, then the measures, and longer texts at the end."""
    answer, message, memory = fields["answer"], fields["message"], fields["memory"]
    for name in ("verdict", "response", "reason", "blocks", "seconds"):
        if name in fields:
            _line(name, fields[name])
    if answer is not None:
        _line("decoded", _decoded(answer))
    _line("hook_version", fields["hook_version"])
    _line("message", message["hex"])
    if decoded := _decoded(message):
        _line("decoded", decoded)
    _line("time", _times(fields))
    if memory is not None:
        growth_mib = memory["growth_bytes"] / _MIB
        _line("memory", f"{memory['peak_bytes'] / _MIB:.1f} MiB at the peak, {growth_mib:+.1f} MiB by the run")
    for name in ("output", "traceback"):
        lines = fields[name] if name == "output" else fields[name].splitlines()
        _line(name, "" if lines else "none")
        for line in lines:
            typer.echo(f"    {escape(line)}")


def _line(name: str, value: Any) -> None:
    typer.echo(f"{name:>{_WIDTH}}  {escape(str(value))}".rstrip())


def _decoded(payload: dict[str, Any]) -> str:
    """Return the value of bytes with its type, else the guess; "" without either."""
    if payload["value"] is not None:
        return value_text(payload["value"], payload["type"])
    return f"{payload['guess']}?" if payload["guess"] else ""


def _times(fields: dict[str, Any]) -> str:
    run_ms, load_ms = fields["run_ms"], fields["load_ms"]
    if load_ms is None:
        return "not run"
    return f"{run_ms:.1f} ms, after {load_ms:.0f} ms to load the hook"
