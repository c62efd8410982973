"""Values of ABI types as a person writes them: whatever eth-abi encodes can be written, and a wrong text is named."""

import json
from typing import Any

import pytest
from eth_abi.abi import decode
from hypothesis import given
from hypothesis import strategies as st

from watcher.chain.convention.literals import encode_literals, value_types
from watcher.errors import FixUsage
from watcher.report.payload import plain

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "uint8": st.integers(0, 255),
    "uint256": st.integers(0, 2**256 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "address": st.binary(min_size=20, max_size=20),
    "bytes": st.binary(max_size=70),
    "bytes4": st.binary(min_size=4, max_size=4),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
}
TYPED = st.sampled_from(sorted(SCALARS)).flatmap(lambda kind: st.tuples(st.just(kind), SCALARS[kind]))


def written(value: Any) -> str:
    """Return a value as a person writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(plain(value))


@given(st.lists(TYPED, max_size=5), st.lists(TYPED, max_size=3))
def test_every_value_can_be_written_and_is_read_back(scalars: list[tuple[str, Any]], parts: list[Any]) -> None:
    structure = f"({','.join(kind for kind, _ in parts)})[]"
    has_structure = bool(parts)
    types = [kind for kind, _ in scalars] + [structure] * has_structure
    texts = [written(value) for _, value in scalars]
    texts += [json.dumps([[plain(value) for _, value in parts]] * 2)] * has_structure
    data = encode_literals(value_types(f"({','.join(types)})"), texts)
    values = decode(types, data)
    expected = [value for _, value in scalars] + [[tuple(value for _, value in parts)] * 2] * has_structure
    assert plain(values) == [plain(value) for value in expected]


@pytest.mark.parametrize(
    ("types", "texts", "expected"),
    [
        ("(uint8)", ["256"], "value 1, '256', is no uint8"),
        ("(uint8)", ["-1"], "value 1"),
        ("(uint8)", ["1_0"], "whole number"),
        ("(uint8)", ["٣"], "whole number"),
        ("(bool,bool)", ["true", "yes"], "value 2, 'yes', is no bool"),
        ("(address)", ["0x22"], "20 bytes, not 1"),
        ("(bytes4)", ["0x2222"], "4 bytes, not 2"),
        ("(bytes)", ["0x2"], "two hex digits"),
        ("(bytes)", ["22"], "0x"),
        ("(uint8[2])", ["[1]"], "list of 2 values"),
        ("(uint8[])", ["1,2"], "write it as JSON"),
        ("(uint8[])", ["{}"], "list of any number"),
        ("((uint8,bool))", ["[1]"], "list of 2 values"),
        ("(uint8[])", ["[" * 100], "write it as JSON"),
        ("(uint8[])", ["[null]"], "is no uint8"),
        ("(uint8[])", ["[1.5]"], "is no uint8"),
        ("(string)", ["\ud800"], "is not UTF-8"),
        ("(uint256)", ["1", "2"], "takes 1 values, and 2 are given"),
    ],
)
def test_wrong_value_is_refused_with_its_place(types: str, texts: list[str], expected: str) -> None:
    with pytest.raises(FixUsage, match=r".") as refused:
        encode_literals(value_types(types), texts)
    assert expected in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["foo", "(uint256", "uint256)", "(uint257)", "(uint256,)", "(bytes33)", "(" * 500])
def test_wrong_type_is_refused(text: str) -> None:
    with pytest.raises(FixUsage):
        value_types(text)


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("uint", ("uint256",)),
        ("(uint256 amount, address to)", ("uint256", "address")),
        ("(uint8),(bool)", ("(uint8)", "(bool)")),
        ("((uint8,bool))", ("(uint8,bool)",)),
        ("()", ()),
    ],
)
def test_types_are_read_as_arguments_of_a_function(text: str, types: tuple[str, ...]) -> None:
    assert value_types(text) == types
