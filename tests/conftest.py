"""What all tests share: how hypothesis runs, in which order the files are begun, and the log as each test meets it."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from loguru import logger

# The first example pays for imports and tables, and a loaded machine for everything: no example has a deadline.
settings.register_profile("watcher", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("watcher")

# Of a run with several workers, each of which takes a file at a time: the folders whose files take longest.
_FIRST = ("killpoints", "simulation", "system", "torture", "planted")


def _rank(item: pytest.Item) -> int:
    folders = item.nodeid.split("/")
    return _FIRST.index(folders[1]) if len(folders) > 1 and folders[1] in _FIRST else len(_FIRST)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow folders first. The order within a folder stays."""
    items.sort(key=_rank)


@pytest.fixture(autouse=True)
def _log_of_no_daemon() -> Iterator[None]:
    """Take back the patcher of a command that ran in this process: it makes text of each record's exception."""
    yield
    logger.configure(patcher=lambda _: None)
