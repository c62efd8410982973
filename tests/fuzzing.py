"""How hard the decoders of outside bytes are tried: a thousand cases each in every run, more on demand.

`make fuzz` sets WATCHER_FUZZ_CASES. Together the tests marked so make well over 10,000 cases.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

Test = TypeVar("Test", bound=Callable[..., Any])
CASES = int(os.environ.get("WATCHER_FUZZ_CASES", "1000"))


def fuzzed(test: Test) -> Test:
    """A property test over hostile input. Goes above `@given`."""
    thorough = settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    marked: Test = pytest.mark.fuzz(thorough(test))
    return marked
