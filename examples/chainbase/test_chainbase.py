from pathlib import Path

import pytest

from watcher import Skip
from watcher.testing import make_task, run_hook

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("text", "answer"),
    [("three blind mice", "3 words"), ("ein", "1 word"), ("", "0 words"), ("schön\nspät", "2 words")],
)
def test_counts_words(text: str, answer: str) -> None:
    assert run_hook("chainbase:respond", make_task(text.encode()), app_dir=HERE) == answer.encode()


def test_skips_what_is_not_utf8() -> None:
    assert isinstance(run_hook("chainbase:respond", make_task(b"\xff\xfe"), app_dir=HERE), Skip)
