"""The options that commands share, and their way to the settings and the ledger."""

import json
import os
import pwd
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from loguru import logger

from watcher.daemon import log
from watcher.errors import FixConfiguration, TryLater
from watcher.health.prefix import prefix_of
from watcher.ledger import known_sources
from watcher.ledger.engine import parse_url, sqlite_path
from watcher.ledger.misfits import reporting_misfits
from watcher.ledger.reader import Reader
from watcher.redact import Redactor
from watcher.settings import load as settings_load
from watcher.settings.avs import Avs, chosen
from watcher.settings.model import Settings
from watcher.text import escape

DEFAULT_CONFIG = Path("watcher.toml")
CONFIG_VARIABLE = "WATCHER_CONFIG"
AVS_VARIABLE = "WATCHER_AVS"

Config = Annotated[
    Path, typer.Option("--config", "-c", envvar=CONFIG_VARIABLE, help="The settings.", show_default=True)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

Roles = Annotated[
    str | None,
    typer.Option("--role", help="The roles of the process, joined by commas (daemon.roles); docs/replicas.md."),
]

_INDEX = re.compile(r"[0-9]{1,78}|0[xX][0-9a-fA-F]{1,64}")
_INDEX_MAX = 2**256 - 1
_PERSON_LIMIT_CHARS = 120
_READING_ONLY = {"operator.api": "none"}
_NONE: Mapping[str, Any] = MappingProxyType({})
# The AVS that the command line names, and the one whose settings were loaded last.
_AVS: ContextVar[str | None] = ContextVar("avs", default=None)
_LOADED: ContextVar[str] = ContextVar("loaded_avs", default="")
# For a hook alone: settings that name a chain and a contract, neither of which is asked.
_NO_CHAIN = {
    **_READING_ONLY,
    "chain.rpc_urls": ["http://127.0.0.1:8545"],
    "chain.chain_id": 31337,
    "task_manager.address": "0x" + "11" * 20,
    "task_manager.start_block": 0,
}


def task_index(text: str) -> int:
    """Return a task's index from decimal or 0x hex; 32 bytes that name a task are shown as hex elsewhere."""
    index = int(text, 16 if text[1:2] in ("x", "X") else 10) if _INDEX.fullmatch(text) else -1
    if not 0 <= index <= _INDEX_MAX:
        raise typer.BadParameter(f"{text[:80]!r} is not a whole number from 0 to {_INDEX_MAX}, in decimal or as 0x...")
    return index


Index = Annotated[
    int, typer.Argument(parser=task_index, metavar="INDEX", help="The task's index, a number or 32 bytes as 0x... .")
]


OptionalIndex = Annotated[
    int | None, typer.Argument(parser=task_index, metavar="[INDEX]", help="The task's index, as a number or 0x... .")
]


def person() -> str:
    """Return who runs this command, for the record of a manual change: the account, the one behind sudo, the host."""
    try:
        account = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container
        account = f"uid {os.getuid()}"
    behind = os.environ.get("SUDO_USER", "")
    by_sudo = f", sudo by {behind}" if behind and behind != account else ""
    return escape(f"{account}@{socket.gethostname()}{by_sudo}")[:_PERSON_LIMIT_CHARS]


def load(config: Path, *, reading_only: bool = False, overrides: Mapping[str, Any] = _NONE) -> Settings:
    """Load the settings and set the log up by them.

    Args:
        config: the configuration file.
        reading_only: require neither password nor hook, as the command sends nothing.
        overrides: settings of the command line, by their full names.

    Raises:
        FixConfiguration: with every problem.
    """
    return _load(config, {**(_READING_ONLY if reading_only else {}), **overrides} or None)


def load_hook(config: Path, target: str | None = None) -> Settings:
    """Load the settings for a command that needs the hook alone, so that chain and contract may be missing.

    Args:
        config: the configuration file; the default one need not exist where there is a target.
        target: the hook; None: the one of the settings.

    Raises:
        FixConfiguration: with every problem of the other settings.
    """
    own = {} if target is None else {"hook.target": target}
    file = None if own and config == DEFAULT_CONFIG and not config.exists() else config
    try:
        return _load(file, {**_READING_ONLY, **own})
    except FixConfiguration:
        return _load(file, {**_NO_CHAIN, **own})


def role_overrides(role: str | None) -> Mapping[str, Any]:
    """Return the setting that the option `--role` stands for; None: the settings say it."""
    return {} if role is None else {"daemon.roles": role}


def load_all(config: Path, overrides: Mapping[str, Any] = _NONE) -> list[Avs]:
    """Load the settings of all AVSs and set the log up by them; `overrides` as in `load`.

    Raises:
        FixConfiguration: no AVS has usable settings; with every problem.
    """
    log.set_up(level=os.environ.get("WATCHER_LOG", "info"))
    log.report_crashes()
    avss = settings_load.load_all(config, overrides or None, warn=_warn)
    usable = [avs.settings for avs in avss if avs.settings is not None]
    if not usable:
        settings_load.raise_problems(avss)
    _set_log_up(usable)
    return avss


@contextmanager
def choosing(avs: str | None) -> Iterator[None]:
    """Have the commands inside this block load the settings of this AVS; None: of the only one."""
    token = _AVS.set(avs)
    try:
        yield
    finally:
        _AVS.reset(token)


def readyz_path() -> str:
    """Return the path of /readyz of the AVS whose settings were loaded."""
    return f"{prefix_of(_LOADED.get())}/readyz"


def _load(config: Path | None, overrides: Mapping[str, Any] | None) -> Settings:
    log.set_up(level=os.environ.get("WATCHER_LOG", "info"))
    log.report_crashes()
    avs = chosen(settings_load.load_all(config, overrides, warn=_warn), _AVS.get())
    settings_load.raise_problems([avs])
    settings = avs.usable()
    _LOADED.set(avs.name)
    _set_log_up([settings])
    return settings


def _set_log_up(every: Sequence[Settings]) -> None:
    level, form = every[0].log.level, every[0].log.format
    redactor = Redactor([secret for settings in every for secret in settings.secrets()])
    log.set_up(os.environ.get("WATCHER_LOG", level), form, redactor)


def _warn(reason: str) -> None:
    logger.warning("settings.doubtful: a name is close to one of the settings", reason=reason)


def no_ledger(path: Path) -> TryLater:
    """Return the error of a command that finds no ledger at `path`."""
    return TryLater(
        f"there is no ledger at {path} yet; `watcher run` makes it. "
        "A service has its own elsewhere: see By hand in docs/service.md"
    )


@contextmanager
def ledger(settings: Settings) -> Iterator[tuple[Reader, int]]:
    """Open the ledger for a command that only reads it; give the reader and the id of the source.

    Raises:
        TryLater: there is no ledger yet, or it is empty.
        FixConfiguration: it holds other contracts only.
        Edited: it holds values that no verb writes, which what is asked meets.
    """
    url = parse_url(settings.ledger.url)
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise no_ledger(path)
    reader = Reader(url)
    try:
        with reporting_misfits(reader):
            yield reader, _source_of(reader, settings, path)
    finally:
        reader.close()


def _source_of(reader: Reader, settings: Settings, path: Path | None) -> int:
    """Return the id of the source of the settings. Raises as `ledger` does."""
    cursor = reader.read_now(known_sources.find_source, settings.chain.chain_id, settings.task_manager.address_bytes)
    if cursor is not None:
        return cursor.source_id
    if reader.read_now(known_sources.is_empty):
        raise TryLater(f"the ledger at {path or 'ledger.url'} is new; the first `watcher run` begins it")
    raise FixConfiguration(
        "task_manager.address: the ledger holds nothing of this contract on this chain; check chain.chain_id, "
        "task_manager.address and ledger.url, or start `watcher run`"
    )


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
