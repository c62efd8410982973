"""How hard the decoders of outside bytes are tried: 200 cases each in every run, 20,000 in `make fuzz`.

The 200 are the same each time, so that a failure is of the change at hand; `make fuzz` sets WATCHER_FUZZ_CASES, and
goes elsewhere each time.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

Test = TypeVar("Test", bound=Callable[..., Any])
ON_DEMAND = os.environ.get("WATCHER_FUZZ_CASES")
CASES = int(ON_DEMAND or "200")


def fuzzed(test: Test) -> Test:
    """A property test over hostile input. Goes above `@given`."""
    thorough = settings(
        max_examples=CASES,
        derandomize=ON_DEMAND is None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    marked: Test = pytest.mark.fuzz(thorough(test))
    return marked
