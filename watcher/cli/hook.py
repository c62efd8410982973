"""`watcher hook try`: run the hook on one task and send nothing."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from watcher import files
from watcher.cli.options import DEFAULT_CONFIG, Config, Json, ledger, load, load_hook, print_json, task_index
from watcher.errors import AttemptFailed, FixUsage
from watcher.ledger import queries
from watcher.ledger.rows import open_task
from watcher.report.listing import hexed
from watcher.settings.model import Settings
from watcher.task import Later, Response, Sighting, Skip, Task
from watcher.text import escape

app = typer.Typer(help="Try the hook.", no_args_is_help=True)


@app.callback()
def hook() -> None:
    """Try the hook."""


@app.command("try")
def try_(
    index: Annotated[
        int | None, typer.Argument(parser=task_index, metavar="INDEX", help="A task of the ledger.")
    ] = None,
    config: Config = DEFAULT_CONFIG,
    message: Annotated[str | None, typer.Option(help="Or a sample task with this message (0x hex).")] = None,
    file: Annotated[Path | None, typer.Option(help="Or a task as `tasks list --json` prints it.")] = None,
    as_json: Json = False,
) -> None:
    """Run the hook on one task in a worker process, as the daemon would. Sends and records nothing.

    A sample task needs [hook] in the settings and nothing else.
    """
    if sum(source is not None for source in (index, message, file)) != 1:
        raise FixUsage("name one task: its INDEX in the ledger, --message 0x… or --file task.json")
    if index is not None:
        settings = load(config, reading_only=True)
        task = _recorded_task(settings, index)
    else:
        settings = load_hook(config)
        task = _sample_task(settings, {"message": message} if file is None else _fields(file))
    result = asyncio.run(_run(settings, config, task))
    _print(result, as_json)
    if isinstance(result, AttemptFailed):
        raise typer.Exit(1)


async def _run(settings: Settings, config: Path, task: Task) -> Response | Skip | Later | AttemptFailed:
    from watcher.daemon import parts

    hidden = parts.hidden_paths(settings.ledger, config, os.environ)
    async with parts.hook_runner(settings.hook, hidden) as runner:
        try:
            return await runner.run(task)
        except AttemptFailed as error:
            return error


def _recorded_task(settings: Settings, index: int) -> Task:
    with ledger(settings) as (reader, source_id):
        rows = reader.read_now(queries.tasks_at, source_id, index)
    return open_task(rows[0]).task


def _sample_task(settings: Settings, fields: dict[str, Any]) -> Task:
    """Return a task with these fields, as `tasks list --json` names them. Raises FixUsage for a wrong one."""
    try:
        return Task(
            chain_id=settings.chain.chain_id,
            task_manager=settings.task_manager.address_bytes,
            task_index=int(fields.get("task_index", 0)),
            task_hash=_bytes(fields.get("task_hash", "0x" + "00" * 32)),
            created_block=int(fields.get("task_created_block", 1)),
            message=_bytes(fields["message"]),
            quorum_numbers=_bytes(fields.get("quorum_numbers", "0x00")),
            quorum_threshold=int(fields.get("quorum_threshold", 66)),
            deadline_block=None if fields.get("deadline_block") is None else int(fields["deadline_block"]),
            seen_at=Sighting(1, bytes(32), bytes(32), 0),
        )
    except KeyError as missing:
        raise FixUsage(f"not a task: it has no {missing}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise FixUsage(f"not a task: {error}") from None


def _fields(file: Path) -> dict[str, Any]:
    try:
        document = files.parse(file.read_bytes())
    except (OSError, ValueError) as error:
        raise FixUsage(f"{file} cannot be read as JSON ({type(error).__name__})") from None
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    if not isinstance(document, dict):
        raise FixUsage(f"{file} must hold one task object")
    return document


def _bytes(text: Any) -> bytes:
    try:
        if isinstance(text, str) and text.startswith("0x"):
            return bytes.fromhex(text[2:])
    except ValueError:
        pass
    raise ValueError("bytes, such as its message, are written as 0x and two hex digits for each")


def _print(result: Response | Skip | Later | AttemptFailed, as_json: bool) -> None:
    match result:
        case Response(message, version, duration_ms):
            fields: dict[str, Any] = {
                "verdict": "answer",
                "response": hexed(message),
                "hook_version": version,
                "duration_ms": duration_ms,
            }
        case Skip(reason):
            fields = {"verdict": "skip", "reason": reason}
        case Later(blocks, seconds, reason):
            fields = {"verdict": "later", "blocks": blocks, "seconds": seconds, "reason": reason}
        case AttemptFailed():
            fields = {"verdict": "failed", "reason": str(result)}
    if as_json:
        print_json(fields)
    else:
        for name, value in fields.items():
            typer.echo(f"{name:>12}  {escape(str(value))}")
