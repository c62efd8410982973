"""`watcher devnet`: a local chain, contract, operators and an emulator of the hosted API."""

import asyncio
import json
import shlex
import signal
import time
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watcher.abi.layout import BadType, Layout, layout
from watcher.abi.sample import sample_message
from watcher.cli.ask import ask
from watcher.cli.init import HOOK_FILE, HOOK_FUNCTION
from watcher.cli.options import CONFIG_VARIABLE, DEFAULT_CONFIG
from watcher.daemon import log
from watcher.devnet.config_file import DevnetPlace, write_config
from watcher.devnet.conventions import Name
from watcher.errors import FixConfiguration, FixUsage
from watcher.redact import hide_urls

if TYPE_CHECKING:
    from watcher.devnet.world import Devnet

_CONFIG_LIMIT_BYTES = 1024 * 1024
_NO_TYPES: Mapping[str, str] = MappingProxyType({})
_EXAMPLE_NUMBER = 21
_EXAMPLES = {"bytes": "0x2a", "uint256": "0x2a", "string": "--abi string 'a text'"}

app = typer.Typer(invoke_without_command=True)
app.command("ask")(ask)


@app.callback()
def devnet(
    context: typer.Context,
    directory: Annotated[Path, typer.Option(help="Folder for logs, the chain's state, watcher.toml and env.")] = Path(
        "devnet"
    ),
    anvil: Annotated[
        Path | None, typer.Option(envvar="WATCHER_ANVIL", help="The anvil program; found or fetched otherwise.")
    ] = None,
    block_time: Annotated[float, typer.Option(min=0.1, help="Seconds between blocks.")] = 1.0,
    window: Annotated[int, typer.Option(min=1, help="Blocks in which a task may be answered.")] = 100,
    operators: Annotated[int, typer.Option(min=1, max=50, help="Number of operators that sign.")] = 3,
    convention: Annotated[Name, typer.Option(help="The ABI of the task manager.")] = "wizard",
    rpc_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the chain; 0 takes a free one.")] = 0,
    api_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the hosted API; 0 takes a free one.")] = 0,
    tasks_every: Annotated[float, typer.Option(min=0, help="Seconds between two tasks; 0 makes none.")] = 0,
    hook: Annotated[
        str, typer.Option(help="The hook that watcher.toml names, module:function; by default that of ./watcher.toml.")
    ] = "",
) -> None:
    """Run the devnet until Ctrl-C. The hosted operator in it is an emulator, not AltLayer's service."""
    if context.invoked_subcommand is not None:
        return
    log.set_up()
    from watcher.devnet.world import Devnet, DevnetOptions

    config = directory / "watcher.toml"
    if config.resolve() == DEFAULT_CONFIG.resolve() and config.exists():
        raise FixUsage(f"{config} exists, and the devnet would overwrite it; name another --directory")
    target, app_dir, types = (hook, Path.cwd(), _NO_TYPES) if hook else _own_hook() or _new_hook()
    form = _form(types)
    options = DevnetOptions(
        anvil=anvil,
        directory=directory,
        mining=block_time,
        convention=convention,
        window_blocks=window,
        operators=operators,
        rpc_port=rpc_port,
        api_port=api_port,
        persist=False,
    )

    async def main() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with Devnet(options) as net:
            # The chain is a new one at each start, and needs a new ledger.
            ledger = directory.absolute() / f"watcher-{time.strftime('%Y%m%d-%H%M%S')}.db"
            toml = partial(
                net.toml,
                message=types.get("message", ""),
                response=types.get("response", ""),
                app_dir=str(app_dir),
                ledger_url=f"sqlite:///{ledger}",
            )
            place = DevnetPlace(net.rpc_url, net.task_manager, net.convention.name)
            asked = frozenset({("hook", "target"), ("hook", "app_dir")}) if hook else frozenset()
            text, is_edited = write_config(config, toml(target=target), place, asked=asked)
            _write_env(directory / "env", config, net)
            # A URL may hold a password, which the file needs and a terminal must not show.
            _print_config(config, text.replace(target, hide_urls(target)), is_edited=is_edited)
            _print_next(net, config, types, is_new=not hook and _own_hook() is None)
            making = asyncio.create_task(_make_tasks(net, form, tasks_every)) if tasks_every else None
            await stopped.wait()
            if making is not None:
                making.cancel()

    asyncio.run(main())


def _own_hook() -> tuple[str, Path, Mapping[str, str]] | None:
    """Return target, folder and ABI types of the hook in ./watcher.toml, None without one."""
    from watcher.files import read_text

    try:
        table = tomllib.loads(read_text(DEFAULT_CONFIG, _CONFIG_LIMIT_BYTES)).get("hook", {})
        target, app_dir = table.get("target"), table.get("app_dir", ".")
    except (OSError, ValueError, AttributeError, FixConfiguration):
        target, app_dir = None, "."
    if isinstance(target, str) and isinstance(app_dir, str) and target:
        types = {name: text for name in ("message", "response") if isinstance(text := table.get(name), str)}
        return target, Path(app_dir).absolute(), types
    return None


def _new_hook() -> tuple[str, Path, Mapping[str, str]]:
    """Return target, folder and ABI types of the hook that `watcher init --hook` writes."""
    return f"{Path(HOOK_FILE).stem}:{HOOK_FUNCTION}", Path.cwd(), _NO_TYPES


def _form(types: Mapping[str, str]) -> Layout | None:
    """Return the values of the hook's messages; None for bytes. Wrong types are bytes: `watcher run` reports them."""
    try:
        return layout("message", types.get("message", ""))
    except BadType:
        return None


def _write_env(path: Path, config: Path, net: "Devnet") -> None:
    """Write a file for the shell that makes `watcher run` and the other commands use this devnet."""
    variables = {CONFIG_VARIABLE: str(config.absolute()), **net.environment}
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    path.touch(mode=0o600)
    path.write_text("".join(lines), encoding="utf-8")


def _print_config(config: Path, toml: str, *, is_edited: bool) -> None:
    """Print the configuration; everything else is a comment of it."""
    how = "your edits are kept in" if is_edited else "written to"
    typer.echo(f"# {how} {config}; EMULATED hosted operator, for tests only\n{toml}")


def _print_next(net: "Devnet", config: Path, types: Mapping[str, str], *, is_new: bool) -> None:
    """Print what a person does next, as comments. `is_new`: there may be no hook yet."""
    if is_new:
        typer.echo(
            "# the hook is hook.target; `watcher init --hook` writes one, and the source tree has "
            f"{net.convention.hook} in examples/"
        )
    line = f"watcher devnet ask{_directory_option(config)} {example(net.convention.content, types)}"
    typer.echo(
        f"# next, in a second terminal: . {config.parent / 'env'} && watcher run\n"
        f"# a task of your own: {line}\n# or set:"
    )
    for name, value in net.environment.items():
        typer.echo(f"# export {name}={value}")


def example(content: str, types: Mapping[str, str]) -> str:
    """Return arguments of `watcher devnet ask` that a hook can answer.

    Args:
        content: the type of a task's content by the convention.
        types: hook.message, if the hook has types.
    """
    form = _form(types)
    if form is None:
        return _EXAMPLES[content]
    value = _as_lists(form.to_json(form.decode(sample_message(form, _EXAMPLE_NUMBER))))
    arguments = [each if isinstance(each, str) else json.dumps(each) for each in ([value] if form.is_single else value)]
    return shlex.join(["--abi", types["message"], *arguments])


def _directory_option(config: Path) -> str:
    return "" if config.parent == Path("devnet") else f" --directory {shlex.quote(str(config.parent))}"


def _as_lists(form: Any) -> Any:
    """Return the JSON form of values as `--abi` takes it: a tuple with names is a list, too."""
    if isinstance(form, Mapping):
        return [_as_lists(part) for part in form.values()]
    return [_as_lists(part) for part in form] if isinstance(form, list) else form


async def _make_tasks(net: "Devnet", form: Layout | None, every_s: float) -> None:
    number = 0
    while True:
        number += 1
        await net.create_tasks([net.convention.question(number) if form is None else sample_message(form, number)])
        await asyncio.sleep(every_s)
