"""Types by their names, held to eth-abi's grammar."""

from typing import Any

import pytest
from eth_abi.exceptions import ParseError
from eth_abi.grammar import TupleType, normalize, parse
from eth_abi.registry import registry
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher.chain.convention import kinds

_NAMES = [
    "uint",
    "int",
    "byte",
    "function",
    "address",
    "bool",
    "string",
    "bytes",
    "fixed",
    "ufixed128x18",
    "uint 8",
    "",
]
_elementary = st.one_of(
    st.sampled_from(_NAMES), st.builds("{}{}".format, st.sampled_from(["uint", "int", "bytes"]), st.integers(0, 264))
)
_any_kind = st.recursive(
    _elementary,
    lambda inner: st.one_of(
        st.builds("{}[{}]".format, inner, st.sampled_from(["", "0", "1", "2", "02", "31", "-1", "x"])),
        st.lists(inner, max_size=3).map(lambda parts: f"({','.join(parts)})"),
        st.builds("({}".format, inner),
        st.builds("{})".format, inner),
    ),
    max_leaves=6,
)
_valid = _any_kind.map(kinds.canonical).filter(bool)


def _by_eth_abi(kind: str) -> str | None:
    name: str = normalize(kind)  # type: ignore[no-untyped-call]
    try:
        parse(name).validate()
        return name if registry.has_encoder(name) and "fixed" not in name else None
    except (ParseError, ValueError):
        return None


@fuzzed
@given(_any_kind)
def test_canonical_names_are_those_of_eth_abi(kind: str) -> None:
    assert kinds.canonical(kind) == _by_eth_abi(kind)


@pytest.mark.parametrize(
    "kind",
    ["()", "(())", "uint08", "uint8[01]", "uint8\n", " uint8", "(uint8,)", "(uint8),(uint8)", "[2]", "bytes\u0661"],
)
def test_canonical_refuses_what_is_no_type(kind: str) -> None:
    assert kinds.canonical(kind) is None and _by_eth_abi(kind) is None


@fuzzed
@given(_valid)
def test_parts_of_a_type_are_those_of_eth_abi(kind: str) -> None:
    parsed: Any = parse(kind)
    assert kinds.is_dynamic(kind) == parsed.is_dynamic
    if parsed.arrlist:
        length = parsed.arrlist[-1]
        assert kinds.array(kind) == (kind[: kind.rindex("[")], length[0] if length else None)
        assert not kinds.members(kind)
    elif isinstance(parsed, TupleType):
        assert kinds.members(kind) == [component.to_type_str() for component in parsed.components]
    else:
        assert kinds.array(kind) is None and not kinds.members(kind)
        assert kinds.sized(kind) == (parsed.base, parsed.sub or 0)
