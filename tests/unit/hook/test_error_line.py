"""An error of the author's code on one line."""

from watcher.hook.error_line import describe


def test_an_error_whose_text_raises_is_still_described() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit(3)

    assert describe(Mute()) == "Mute: its text cannot be shown, __str__ raised SystemExit"
