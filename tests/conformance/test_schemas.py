"""Ledgers in schemas of one PostgreSQL database: each AVS has its own, and its auditor's role sees no other."""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ProgrammingError

from watcher.clock import SystemClock
from watcher.ledger import known_sources, schema
from watcher.ledger.engine import parse_url
from watcher.ledger.reader import Reader
from watcher.ledger.store import open_ledger

CHAIN_ID = 31337
MANAGERS = {"avs_alpha": b"\x11" * 20, "avs_beta": b"\x22" * 20}


@pytest.fixture
def ledgers(postgres: URL) -> Iterator[dict[str, URL]]:
    """The URL of a ledger in each of two schemas, made as a daemon makes them at its first start."""
    suffix = f"_{os.getpid()}"
    urls = {
        name: parse_url(postgres.update_query_dict({"schema": name + suffix}).render_as_string(hide_password=False))
        for name in MANAGERS
    }
    try:
        for url in urls.values():
            schema.upgrade(url)
        yield urls
    finally:
        admin = create_engine(postgres)
        with admin.begin() as connection:
            for name in MANAGERS:
                connection.execute(text(f'DROP SCHEMA IF EXISTS "{name}{suffix}" CASCADE'))
        admin.dispose()


async def test_each_schema_holds_a_ledger_of_its_own(ledgers: dict[str, URL]) -> None:
    for name, url in ledgers.items():
        assert schema.check(url).is_current
        async with open_ledger(url, SystemClock(), CHAIN_ID, MANAGERS[name], 0) as ledger:
            assert (await ledger.cursor()).start_block == 0
    for name, url in ledgers.items():
        with closing(Reader(url)) as reader:
            assert [each.task_manager for each in reader.read_now(known_sources.all_sources)] == [MANAGERS[name]]


async def test_an_auditor_of_one_avs_sees_nothing_of_another(ledgers: dict[str, URL], postgres: URL) -> None:
    """The rights of docs/many-avs.md, and no more."""
    for name, url in ledgers.items():
        async with open_ledger(url, SystemClock(), CHAIN_ID, MANAGERS[name], 0):
            pass
    schemas = {name: str(url.query["schema"]) for name, url in ledgers.items()}
    role = f"auditor_alpha_{os.getpid()}"
    admin = create_engine(postgres)
    grants = (
        f'CREATE ROLE "{role}" LOGIN',
        f'GRANT USAGE ON SCHEMA "{schemas["avs_alpha"]}" TO "{role}"',
        f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schemas["avs_alpha"]}" TO "{role}"',
    )
    with admin.begin() as connection:
        for grant in grants:
            connection.execute(text(grant))
    try:
        own = ledgers["avs_alpha"].set(username=role)
        with closing(Reader(own)) as reader:
            assert [each.task_manager for each in reader.read_now(known_sources.all_sources)] == [MANAGERS["avs_alpha"]]
        auditor = create_engine(postgres.set(username=role))
        with auditor.connect() as connection, pytest.raises(ProgrammingError, match="permission denied for schema"):
            connection.execute(text(f'SELECT * FROM "{schemas["avs_beta"]}".sources'))
        with auditor.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
            connection.execute(text(f'DELETE FROM "{schemas["avs_alpha"]}".sources'))
        auditor.dispose()
    finally:
        with admin.begin() as connection:
            connection.execute(text(f'DROP OWNED BY "{role}"'))
            connection.execute(text(f'DROP ROLE "{role}"'))
        admin.dispose()
