"""Sample values: those of any type can be encoded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.abi.layout import layout
from watcher.abi.sample import sample


@pytest.mark.parametrize(
    "types",
    [
        "(uint256 number)",
        "uint8",
        "(int8, bool, address owner, bytes4, bytes, string)",
        "tuple(uint16[3] a, (string name, bytes32[] b)[] c)",
        "address[2][]",
    ],
)
@given(number=st.integers(0, 2**64 - 1))
def test_samples_of_every_type_can_be_encoded(types: str, number: int) -> None:
    form = layout("message", types)
    assert form is not None
    data = form.encode(sample(form.type, number))
    assert form.is_canonical(data)
    assert form.encode(form.decode(data)) == data


def test_samples_of_two_numbers_differ() -> None:
    form = layout("message", "(uint256, string)")
    assert form is not None
    assert sample(form.type, 1) != sample(form.type, 2)
