"""What the commands have in common: their options, and how they come by the settings and the ledger."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from loguru import logger

from watcher.daemon import log
from watcher.errors import FixConfiguration, TryLater
from watcher.ledger import queries
from watcher.ledger.engine import parse_url, sqlite_path
from watcher.ledger.store import Reader
from watcher.settings import load as settings_load
from watcher.settings.model import Settings
from watcher.text import Redactor

DEFAULT_CONFIG = Path("watcher.toml")
CONFIG_VARIABLE = "WATCHER_CONFIG"

Config = Annotated[
    Path, typer.Option("--config", "-c", envvar=CONFIG_VARIABLE, help="The settings.", show_default=True)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

_INDEX = re.compile(r"[0-9]{1,78}|0[xX][0-9a-fA-F]{1,64}")
_INDEX_MAX = 2**256 - 1


def task_index(given: str) -> int:
    """A task's index as people write it. Where 32 bytes name a task, everybody else shows them as hex."""
    index = int(given, 16 if given[1:2] in ("x", "X") else 10) if _INDEX.fullmatch(given) else -1
    if not 0 <= index <= _INDEX_MAX:
        raise typer.BadParameter(f"{given[:80]!r} is no whole number from 0 to {_INDEX_MAX}, nor the same as 0x...")
    return index


Index = Annotated[
    int, typer.Argument(parser=task_index, metavar="INDEX", help="The task's index, a number or 32 bytes as 0x... .")
]


def load(config: Path, *, reading_only: bool = False) -> Settings:
    """The settings, and the log set up by them. Raises FixConfiguration with every problem.

    A command that only reads needs neither password nor hook, so that an auditor can do without.
    """
    log.set_up(level=os.environ.get("WATCHER_LOG", "info"))
    log.report_crashes()
    overrides = {"operator.api": "none"} if reading_only else None
    settings = settings_load.load(config, overrides, warn=lambda words: logger.warning("{}", words))
    log.set_up(os.environ.get("WATCHER_LOG", settings.log.level), settings.log.format, Redactor(settings.secrets()))
    return settings


def no_ledger(path: Path) -> TryLater:
    """What a command says that finds none."""
    return TryLater(
        f"there is no ledger at {path} yet; `watcher run` makes it. "
        "A service has its own elsewhere: docs/service.md, By hand, says how to get at it"
    )


@contextmanager
def ledger(settings: Settings) -> Iterator[tuple[Reader, int]]:
    """The ledger for a command that only reads it, and the id of its source.

    Raises TryLater when there is none yet.
    """
    url = parse_url(settings.ledger.url)
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise no_ledger(path)
    reader = Reader(url)
    try:
        cursor = reader.read_now(queries.find_source, settings.chain.chain_id, settings.task_manager.address_bytes)
        if cursor is None:
            if reader.read_now(queries.is_empty):
                raise TryLater(f"the ledger at {path or 'ledger.url'} is new; the first `watcher run` begins it")
            raise FixConfiguration(
                "task_manager.address: the ledger knows nothing of this contract on this chain; check chain.chain_id, "
                "task_manager.address and ledger.url, or let `watcher run` begin"
            )
        yield reader, cursor.source_id
    finally:
        reader.close()


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
