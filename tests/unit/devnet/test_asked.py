"""Messages of one's own shape: each convention takes those that its contract can carry, and says which others not."""

import pytest

from watcher.devnet.asked import MESSAGE_LIMIT_BYTES, fitting_message
from watcher.devnet.conventions import CONVENTIONS, Name
from watcher.errors import FixUsage


@pytest.mark.parametrize(
    ("name", "message", "expected"),
    [
        ("wizard", b"", b""),
        ("wizard-bridge", b"\xff\x00", b"\xff\x00"),
        ("incredible-squaring", b"\x15", bytes(31) + b"\x15"),
        ("chainbase", "Grüße".encode(), "Grüße".encode()),
    ],
)
def test_message_of_a_kind_that_the_contract_carries_is_taken(name: Name, message: bytes, expected: bytes) -> None:
    assert fitting_message(CONVENTIONS[name], message) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [("incredible-squaring", bytes(33)), ("chainbase", b"\xff"), ("wizard", bytes(MESSAGE_LIMIT_BYTES + 1))],
)
def test_other_message_is_refused(name: Name, message: bytes) -> None:
    with pytest.raises(FixUsage, match=r"uint256|text|bytes"):
        fitting_message(CONVENTIONS[name], message)
