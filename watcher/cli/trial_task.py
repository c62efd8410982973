"""The task of a trial: one of the ledger, of the chain or of a file, or a made-up message."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watcher import files
from watcher.cli.options import ledger, load, load_hook, task_index
from watcher.errors import FixConfiguration, FixUsage
from watcher.ledger import queries
from watcher.ledger.rows import open_task
from watcher.report.payload import Decoder, Payload, plain
from watcher.settings.model import Settings
from watcher.task import Sighting, Task
from watcher.text import to_hex

_FILE_LIMIT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Choice:
    """The task that a command line names. One of the sources is given, or `index` alone: a task of the ledger.

    `values` are the texts for `abi`, the types of a made-up message.
    """

    index: int | None = None
    chain: bool = False
    message: str | None = None
    file: Path | None = None
    abi: str | None = None
    values: Sequence[str] = ()


def read_arguments(arguments: Sequence[str], choice: Choice) -> tuple[str | None, Choice]:
    """Return the target and the complete choice from the arguments of a command line.

    The arguments are an index, a target, or both; with `abi` the values of a message, behind a target.

    Raises:
        FixUsage: they fit nothing.
    """
    if choice.abi is not None:
        from watcher.chain.convention.literals import value_types

        behind = len(arguments) - len(value_types(choice.abi))
        target = arguments[0] if behind == 1 else None
        return _checked(target, Choice(**_source_of(choice), abi=choice.abi, values=arguments[behind == 1 :]))
    indices = [word for word in arguments if word[:1].isdigit()]
    targets = [word for word in arguments if not word[:1].isdigit()]
    if len(indices) > 1 or len(targets) > 1:
        raise FixUsage("name one TARGET and one INDEX at most; values of a message need --abi")
    index = task_index(indices[0]) if indices else None
    return _checked(targets[0] if targets else None, Choice(index=index, **_source_of(choice)))


def _source_of(choice: Choice) -> dict[str, Any]:
    return {"chain": choice.chain, "message": choice.message, "file": choice.file}


def _checked(target: str | None, choice: Choice) -> tuple[str | None, Choice]:
    """Refuse a choice of no task, or of several."""
    sources = [source for source in (choice.message, choice.file, choice.abi) if source is not None]
    in_file = choice.file is not None and choice.index is not None
    if len(sources) + (choice.index is not None and not in_file) != 1:
        raise FixUsage(
            "name one task: its INDEX in the ledger (with --chain on the chain), --message 0x…, "
            "--abi TYPES VALUES… or --file task.json"
        )
    if choice.chain and choice.index is None:
        raise FixUsage("--chain takes the INDEX of a task")
    if choice.chain and in_file:
        raise FixUsage("--chain and --file are two sources; name one")
    return target, choice


def settings_and_task(config: Path, target: str | None, choice: Choice) -> tuple[Settings, Task]:
    """Return the settings that a trial needs, and its task.

    Raises:
        FixConfiguration: the settings are wrong.
        FixUsage: there is no such task, or no hook.
        TryLater: there is no ledger.
        RetryElsewhere: no node answers.
    """
    if choice.index is None or choice.file is not None:
        fields = _fields(choice)
        if target is None and not config.exists():
            raise FixConfiguration(f"{config}: does not exist; name a TARGET, such as squaring:respond")
        settings = load_hook(config, target)
        task = sample_task(settings, fields)
    else:
        settings = load(config, reading_only=True, overrides={} if target is None else {"hook.target": target})
        task = _on_chain(settings, choice.index) if choice.chain else _recorded(settings, choice.index)
    if not settings.hook.target:
        raise FixUsage("name a TARGET, such as squaring:respond, or set hook.target")
    return settings, task


def _recorded(settings: Settings, index: int) -> Task:
    with ledger(settings) as (reader, source_id):
        rows = reader.read_now(queries.tasks_at, source_id, index)
    return open_task(rows[0]).task


def _on_chain(settings: Settings, index: int) -> Task:
    import asyncio

    from watcher.cli.past_tasks import find_on_chain

    task = asyncio.run(find_on_chain(settings, index))
    if task is None:
        raise FixUsage(f"the contract's logs since task_manager.start_block show no task {index}")
    return task


def _fields(choice: Choice) -> dict[str, Any]:
    """Return the fields of a task, as `tasks list --json` names them."""
    if choice.file is not None:
        return _fields_in(choice.file, choice.index)
    if choice.abi is None:
        return {"message": choice.message}
    from watcher.chain.convention.literals import encode_literals, value_types

    return {"message": "0x" + encode_literals(value_types(choice.abi), choice.values).hex()}


def sample_task(settings: Settings, fields: dict[str, Any]) -> Task:
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


def _fields_in(file: Path, index: int | None) -> dict[str, Any]:
    """Return the one task in a file, or of several the one with the index."""
    try:
        document = files.parse(files.read_text(file, _FILE_LIMIT_BYTES).encode())
    except FixConfiguration as error:
        raise FixUsage(f"{file}: {error}") from None
    except ValueError:
        raise FixUsage(f"{file} is not JSON; `watcher tasks show INDEX --json` writes such a file") from None
    tasks = document if isinstance(document, list) else [document]
    tasks = [task for task in tasks if isinstance(task, dict)]
    if index is not None:
        tasks = [task for task in tasks if task.get("task_index") == index]
    if len(tasks) != 1 or (isinstance(document, list) and index is None and len(document) != 1):
        which = "no task with this index" if index is not None and not tasks else "not one task object"
        raise FixUsage(f"{file} holds {which}; of several, the INDEX names one")
    fields: dict[str, Any] = tasks[0]
    return fields


def message_payload(task: Task, choice: Choice, decoder: Decoder) -> Payload:
    """Return the message of the task for people: with its values where hook.message or --abi gives their types."""
    decoded = decoder.payload_of_message(task.message)
    if choice.abi is None or decoded.value is not None:
        return decoded
    from watcher.chain.convention.abi import Codec
    from watcher.chain.convention.literals import value_types

    types = value_types(choice.abi)
    values, _ = Codec(*types).decode(task.message)
    return Payload(to_hex(task.message), len(task.message), f"({','.join(types)})", plain(values))


def _bytes(text: Any) -> bytes:
    try:
        if isinstance(text, str) and text.startswith("0x"):
            return bytes.fromhex(text[2:])
    except ValueError:
        pass
    raise ValueError("bytes, such as its message, are written as 0x and two hex digits for each")
