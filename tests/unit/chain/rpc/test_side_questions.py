"""A node that keeps no old state says so in many ways, and is not out of order for it."""

import pytest

from watcher.chain.rpc.errors import rpc_error

NO_STATE = [
    "missing trie node 5a1f0c (path ) state 0x5a1f is not available, not found",
    "historical state 0x5a1f is not available",
    "required historical state unavailable (reexec=128)",
    "state at block #17 is pruned",
    "old data not available due to pruning: history is available from block 9",
    "No state available for block 0x11",
    "World state unavailable",
    "project does not have access to archive state",
]


@pytest.mark.parametrize("message", NO_STATE)
def test_a_state_that_is_not_kept_is_recognised(message: str) -> None:
    error = rpc_error({"code": -32000, "message": message})
    assert error.no_such_state
    assert not (error.slow_down or error.call_failed)


@pytest.mark.parametrize(
    "message", ["query returned more than 10000 results", "execution reverted", "header not found"]
)
def test_other_refusals_are_not_taken_for_it(message: str) -> None:
    assert not rpc_error({"code": -32000, "message": message}).no_such_state
