"""Scenarios are told by their own trace; what the daemon logs would drown it, and costs time."""

from collections.abc import Iterator

import pytest
from loguru import logger


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    logger.disable("watcher")
    yield
    logger.enable("watcher")
