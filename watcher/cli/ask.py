"""`watcher devnet ask`: a task of one's own shape on the running devnet."""

import asyncio
import os
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watcher.cli.options import CONFIG_VARIABLE, DEFAULT_CONFIG, Json, print_json
from watcher.errors import FixConfiguration, FixUsage, RetryElsewhere
from watcher.files import read_text
from watcher.text import escape, to_hex

if TYPE_CHECKING:
    from watcher.devnet.config_file import DevnetPlace
    from watcher.devnet.tasks import TaskManager

_CONFIG_LIMIT_BYTES = 1024 * 1024
_WIDTH = 10


def ask(
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="MESSAGE|VALUES...", help="The message as 0x hex, or the values for --abi."),
    ] = None,
    abi: Annotated[
        str | None, typer.Option(metavar="TYPES", help="The ABI types of the VALUES: '(uint256,address)' 21 0x…")
    ] = None,
    directory: Annotated[Path, typer.Option(help="The folder of the running devnet.")] = Path("devnet"),
    threshold: Annotated[int, typer.Option(min=1, max=100, help="Percent of the stake that must sign.")] = 66,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the task to its response on the chain.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="With --wait: at most so many seconds.")] = 120.0,
    as_json: Json = False,
) -> None:
    """Create one task with this message on the running devnet; it prints index, block and transaction.

    Finds the devnet by --directory, else by watcher.toml (or WATCHER_CONFIG). Exit code 69 if none runs, 75 if there is
    no response in time.
    """
    place = _place(directory)
    message = _message(place.convention, abi, values or [])
    fields = asyncio.run(_ask(place, message, threshold, timeout if wait else None, as_json=as_json))
    if as_json:
        print_json(fields)
    elif not wait:
        index = fields["task_index"]
        _line(
            "next",
            f"`watcher run` answers it; `watcher explain {index}` tells its story, --wait waits for its response",
        )


async def _ask(
    place: "DevnetPlace", message: bytes, threshold: int, timeout_s: float | None, *, as_json: bool
) -> dict[str, Any]:
    """Create the task, and follow it with a limit in seconds. Print both as they come, or return them for JSON."""
    from watcher.devnet.asked import create, running_devnet

    async with running_devnet(place) as manager:
        created = await create(manager, message, threshold)
        fields: dict[str, Any] = {
            "task_index": created.index,
            "block_number": created.block_number,
            "tx_hash": created.tx_hash,
            "message": to_hex(message),
        }
        if not as_json:
            _line("task", created.index)
            _line("block", created.block_number)
            _line("tx", created.tx_hash)
            _line("message", to_hex(message))
        if timeout_s is None:
            return fields
        return fields | await _response(manager, created.index, timeout_s, as_json=as_json)


async def _response(manager: "TaskManager", index: int, timeout_s: float, *, as_json: bool) -> dict[str, Any]:
    from watcher.devnet.asked import answer_to
    from watcher.report.payload import payload

    answer = await answer_to(manager, index, timeout_s)
    response = payload(answer.message)
    if not as_json:
        _line("response", response.text)
        _line("in block", answer.block_number)
        _line("by tx", answer.tx_hash)
    return {"response": asdict(response), "responded_block": answer.block_number, "responded_tx_hash": answer.tx_hash}


def _message(convention: str, abi: str | None, values: list[str]) -> bytes:
    """Return the message that the arguments stand for. Raises FixUsage."""
    if abi is None:
        if len(values) != 1:
            raise FixUsage("name one MESSAGE as 0x hex, or --abi TYPES and a value for each")
        return _hex(values[0])
    from watcher.chain.convention.literals import encode_literals, value_types
    from watcher.devnet.conventions import CONVENTIONS

    types = value_types(abi)
    known = CONVENTIONS.get(convention)  # type: ignore[call-overload]
    if known is not None and known.content == "string":
        if types != ("string",) or len(values) != 1:
            raise FixUsage(f"a task of {convention} asks with one text: use --abi string TEXT")
        return values[0].encode("utf-8", "surrogateescape")
    return encode_literals(types, values)


def _hex(text: str) -> bytes:
    try:
        if text[:2] in ("0x", "0X"):
            return bytes.fromhex(text[2:])
    except ValueError:
        pass
    raise FixUsage(f"{escape(text[:80])!r} is no message: write 0x and two hex digits for each byte, or use --abi")


def _place(directory: Path) -> "DevnetPlace":
    """Return the devnet of a folder, else the one that the settings name.

    Raises:
        RetryElsewhere: there is neither.
        FixConfiguration: the settings name no devnet.
    """
    from watcher.devnet.config_file import read_place

    if (place := read_place(directory)) is not None:
        return place
    for config in (directory / DEFAULT_CONFIG, Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)):
        if config.exists():
            return _place_in(config)
    raise RetryElsewhere(
        f"no devnet runs here: there is no {directory / DEFAULT_CONFIG}; start one with `watcher devnet` in "
        "this folder, or name its --directory"
    )


def _place_in(config: Path) -> "DevnetPlace":
    from watcher.devnet.config_file import DevnetPlace

    try:
        settings = tomllib.loads(read_text(config, _CONFIG_LIMIT_BYTES))
        url = next(url for url in settings["chain"]["rpc_urls"] if url.startswith("http"))
        section = settings["task_manager"]
        place = DevnetPlace(url, section["address"], section.get("convention", "wizard"))
    except FixConfiguration as error:
        raise FixConfiguration(f"{config}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        raise FixConfiguration(f"{config}: names no chain.rpc_urls and task_manager.address of a devnet") from None
    if not all(isinstance(text, str) for text in (place.rpc_url, place.task_manager, place.convention)):
        raise FixConfiguration(f"{config}: task_manager.address is no text")
    return place


def _line(name: str, value: Any) -> None:
    typer.echo(f"{name:>{_WIDTH}}  {escape(str(value))}")
