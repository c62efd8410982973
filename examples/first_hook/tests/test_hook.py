"""The hook, run as the daemon runs it: in a worker process, with the limits of watcher.toml."""

from pathlib import Path

import pytest

from watcher import Skip
from watcher.testing import LocalDevnet, ReplayCase, RunHook, replay_cases

RECORDED = Path(__file__).with_name("tasks.json")


def number(value: int) -> bytes:
    """Return a number as abi.encode writes a uint256."""
    return value.to_bytes(32, "big")


@pytest.mark.parametrize(("asked", "answered"), [(0, 0), (12, 144), (2**128 - 1, (2**128 - 1) ** 2), (2**128, 0)])
def test_answers_with_the_square(run_hook: RunHook, asked: int, answered: int) -> None:
    assert run_hook(number(asked)) == number(answered)


def test_skips_a_message_that_is_no_number(run_hook: RunHook) -> None:
    assert isinstance(run_hook(b"\x01\x02"), Skip)


@pytest.mark.parametrize("case", replay_cases(RECORDED), ids=str)
def test_a_recorded_task_gets_the_same_answer(run_hook: RunHook, case: ReplayCase) -> None:
    assert run_hook(case.task) == case.response


def test_a_task_becomes_final_on_the_devnet(devnet: LocalDevnet) -> None:
    task = devnet.ask(number(21))
    assert (task["state"], task["response"]) == ("final", "0x" + number(441).hex()), devnet.log
