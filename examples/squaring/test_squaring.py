from pathlib import Path

from watcher import Skip
from watcher.testing import make_task, run_hook

HERE = Path(__file__).parent


def test_squares_the_number() -> None:
    assert run_hook("squaring:respond", make_task((12).to_bytes(32, "big")), app_dir=HERE) == (144).to_bytes(32, "big")


def test_wraps_around_like_a_uint256() -> None:
    assert run_hook("squaring:respond", make_task((2**128).to_bytes(32, "big")), app_dir=HERE) == bytes(32)


def test_skips_what_is_not_a_number() -> None:
    assert isinstance(run_hook("squaring:respond", make_task(b"\x01"), app_dir=HERE), Skip)
