"""The sample of a hook with types: a message that decodes."""

import pytest

from watcher.abi.layout import layout
from watcher.doctor.hook import plain


@pytest.mark.parametrize(
    "text",
    [
        "uint8",
        "(uint256 number, address owner)",
        "tuple(string name, bytes data, bytes4 mark, bool ok, int8[] parts, (uint8, string)[2] pairs)[]",
        "(uint256[][3], tuple(bytes32)[1])",
        "(uint256[][])",
        "(string)",
    ],
)
def test_a_plain_value_is_one_of_its_type(text: str) -> None:
    values = layout("message", text)
    assert values is not None
    assert values.is_canonical(values.encode(plain(values.type)))
