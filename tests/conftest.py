"""What all tests share: how hypothesis runs, in which order the files are begun, and the log as each test meets it."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from loguru import logger

# The first example pays for imports and tables, and a loaded machine for everything: no example has a deadline.
settings.register_profile("watcher", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("watcher")

# Of a run with several workers, each of which takes a file at a time: the files and folders that take longest, in that
# order, so that no worker ends with one of them while the others have nothing left.
_FIRST = (
    "torture/test_smoke.py",
    "torture/test_transitions.py",
    "killpoints/",
    "system/test_hook_ways.py",
    "system/test_real_systemd.py",
    "system/test_secrets.py",
    "simulation/",
    "integration/test_project_template.py",
    "planted/",
    "system/test_disk.py",
    "system/test_health.py",
    "system/test_check.py",
    "system/test_shadow.py",
    "system/test_clock.py",
    "system/test_init.py",
    "system/test_audit_page.py",
    "torture/",
    "system/",
    "integration/test_dashboard_browser.py",
    "integration/test_testing_plugin.py",
    "conformance/",
    "integration/",
)


def _rank(item: pytest.Item) -> int:
    name = item.nodeid.removeprefix("tests/")
    return next((rank for rank, begin in enumerate(_FIRST) if name.startswith(begin)), len(_FIRST))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what is slow first. The order within a folder stays."""
    items.sort(key=_rank)


@pytest.fixture(autouse=True)
def _log_of_no_daemon() -> Iterator[None]:
    """Take back the patcher of a command that ran in this process: it makes text of each record's exception."""
    yield
    logger.configure(patcher=lambda _: None)
