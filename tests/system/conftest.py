"""The server of the modules whose ledger is on PostgreSQL."""

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL

from tests.conformance.postgres import NoServer, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[URL]:
    """A server of the module's own; its tests are skipped where there is none."""
    try:
        with running_server() as url:
            yield url
    except NoServer as why:
        pytest.skip(str(why))
