"""The hook, run as the daemon runs it: in a worker process, with the limits of watcher.toml."""

from pathlib import Path

import pytest

from watcher import Skip
from watcher.testing import LocalDevnet, ReplayCase, RunHook, encode, replay_cases

RECORDED = Path(__file__).with_name("tasks.json")
MESSAGE = "(uint256 number)"
RESPONSE = "(uint256 square)"


@pytest.mark.parametrize("number", [0, 1, 12, 2**128 - 1])
def test_answers_with_the_square(run_hook: RunHook, number: int) -> None:
    assert run_hook(encode(MESSAGE, number)) == encode(RESPONSE, number**2)


def test_skips_a_number_whose_square_is_too_large(run_hook: RunHook) -> None:
    assert isinstance(run_hook(encode(MESSAGE, 2**128)), Skip)


@pytest.mark.parametrize("case", replay_cases(RECORDED), ids=str)
def test_a_recorded_task_gets_the_same_answer(run_hook: RunHook, case: ReplayCase) -> None:
    assert run_hook(case.task) == case.response


def test_a_task_becomes_final_on_the_devnet(devnet: LocalDevnet) -> None:
    task = devnet.ask(encode(MESSAGE, 21))
    assert (task["state"], task["response"]) == ("final", "0x" + encode(RESPONSE, 441).hex()), devnet.log
