"""A ledger that a command reads: the one of the settings, or a file alone (`--ledger FILE`), without any settings."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from loguru import logger
from sqlalchemy.engine import URL

from watcher.cli import options
from watcher.daemon import log
from watcher.errors import FixUsage, TryLater
from watcher.ledger import known_sources, schema
from watcher.ledger.known_sources import KnownSource
from watcher.ledger.misfits import reporting_misfits
from watcher.ledger.reader import Reader
from watcher.settings.model import Settings

LedgerFile = Annotated[
    Path | None,
    typer.Option(
        "--ledger", help="Read this ledger file alone (a copy, also on a read-only medium); no settings are needed."
    ),
]
SourceName = Annotated[
    str | None,
    typer.Option("--source", help="Of a file with several contracts: the address, or CHAIN_ID:ADDRESS."),
]

_SOURCE = re.compile(r"(?:([0-9]{1,78}):)?0[xX]([0-9a-fA-F]{40})")


@dataclass(frozen=True, slots=True)
class OpenLedger:
    """A ledger open for reading, and one source in it. `settings`: None for a file alone."""

    reader: Reader
    source_id: int
    settings: Settings | None


@contextmanager
def open_to_read(config: Path, file: Path | None, source: str | None) -> Iterator[OpenLedger]:
    """Open the ledger of the settings, or `file` alone; no lock is taken and nothing is written.

    Args:
        config: the settings, read unless `file` is given.
        file: a SQLite ledger.
        source: the contract, where `file` holds several.

    Raises:
        FixUsage: the file is none, holds no ledger of this version, or several contracts of which none is named.
        FixConfiguration: as `options.load` and `options.ledger`.
        Edited: the ledger holds values that no verb writes, and what was asked cannot be answered because of them.
        TryLater: the ledger cannot be read now.
    """
    if file is None:
        if source is not None:
            raise FixUsage("--source names a contract in the file of --ledger; the settings name theirs")
        settings = options.load(config, reading_only=True)
        with options.ledger(settings) as (reader, source_id):
            yield OpenLedger(reader, source_id, settings)
        return
    log.set_up(level=os.environ.get("WATCHER_LOG", "info"))
    log.report_crashes()
    reader = Reader(_checked(file), alone=True)
    try:
        with reporting_misfits(reader):
            yield OpenLedger(reader, _chosen(reader.read_now(known_sources.all_sources), file, source).id, None)
    finally:
        reader.close()


def _checked(file: Path) -> URL:
    """Return the URL of a ledger file that this version can read."""
    if not file.is_file():
        raise FixUsage(f"--ledger: there is no file {file}")
    url = URL.create("sqlite", database=str(file.absolute()))
    try:
        state = schema.check(url, alone=True)
    except TryLater as error:
        if file.with_name(file.name + "-wal").exists():
            raise TryLater(
                f"{error}; {file.name}-wal lies beside it, and SQLite reads such a pair in a writable folder only: "
                "copy both files into one"
            ) from None
        raise
    if state.current is None:
        raise FixUsage(f"--ledger: {file} holds no ledger")
    if not state.is_usable:
        raise FixUsage(
            f"--ledger: {file} has schema {state.current}, and this version reads {state.expected}; "
            f"bring a copy forward: WATCHER_LEDGER__URL=sqlite:///COPY watcher db upgrade"
        )
    logger.debug("ledger.file: a ledger file is read alone", file=str(file))
    return url


def _chosen(known: list[KnownSource], file: Path, name: str | None) -> KnownSource:
    names = ", ".join(f"{source.chain_id}:0x{source.task_manager.hex()}" for source in known)
    if name is None:
        if len(known) == 1:
            return known[0]
        if not known:
            raise FixUsage(f"--ledger: {file} knows no contract yet")
        raise FixUsage(f"--ledger: {file} holds several contracts; name one with --source: {names}")
    match = _SOURCE.fullmatch(name)
    if match is None:
        raise FixUsage(f"--source: {name[:80]!r} is no contract; write its address, or CHAIN_ID:ADDRESS: {names}")
    chain_id, address = match[1], bytes.fromhex(match[2])
    named = [
        source
        for source in known
        if source.task_manager == address and (chain_id is None or source.chain_id == int(chain_id))
    ]
    if len(named) != 1:
        what = "is not" if not named else "is on several chains"
        raise FixUsage(f"--source: {name} {what} in {file}, which holds {names}")
    return named[0]
