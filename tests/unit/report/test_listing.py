"""Values of contracts as people read them."""

import pytest

from watcher.report.listing import second_of


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, None),
        (1_000, "1970-01-01T00:16:40.000Z"),
        (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        (253_402_300_800, None),
        (2**62, None),
    ],
)
def test_a_time_beyond_all_calendars_is_none(seconds: int | None, expected: str | None) -> None:
    assert second_of(seconds) == expected
