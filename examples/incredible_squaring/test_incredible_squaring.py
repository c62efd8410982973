from pathlib import Path

from watcher import Skip
from watcher.testing import make_task, run_hook

HERE = Path(__file__).parent


def squared(number: int) -> object:
    return run_hook("incredible_squaring:respond", make_task(number.to_bytes(32, "big")), app_dir=HERE)


def test_squares_the_number() -> None:
    assert squared(12) == (144).to_bytes(32, "big")
    assert squared(0) == bytes(32)


def test_goes_as_far_as_a_uint256_and_no_farther() -> None:
    assert squared(2**128 - 1) == ((2**128 - 1) ** 2).to_bytes(32, "big")
    assert isinstance(squared(2**128), Skip)
