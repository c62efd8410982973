"""Values to bytes for tests."""

import pytest

from watcher.errors import FixConfiguration
from watcher.testing import encode


def test_values_are_encoded_as_solidity_does() -> None:
    word = (12).to_bytes(32, "big")
    assert encode("(uint256 number)", 12) == encode("uint256", 12) == word
    assert encode("(uint256, bool)", 12, True) == word + (1).to_bytes(32, "big")
    assert encode("tuple(uint256, bool)", (12, True)) == word + (1).to_bytes(32, "big")


@pytest.mark.parametrize(
    ("types", "values", "reason"),
    [
        ("", (), "types are empty"),
        ("(uint257)", (1,), "uint257"),
        ("(uint8 number)", (256,), "number"),
        ("(uint8, bool)", (1,), "values"),
        ("(bool)", (1,), "bool"),
    ],
)
def test_what_does_not_fit_is_named(types: str, values: tuple[object, ...], reason: str) -> None:
    with pytest.raises(FixConfiguration, match=reason):
        encode(types, *values)
