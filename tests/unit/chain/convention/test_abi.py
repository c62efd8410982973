"""The codec gives what eth-abi gives, faster, and nothing but Quarantine for garbage."""

from collections.abc import Callable
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher.chain.convention.abi import Codec
from watcher.chain.convention.signature import empty_value
from watcher.chain.convention.view import NoSuchView, View, hash_or_none, number_of
from watcher.chain.rpc.replies import Reverted
from watcher.errors import Quarantine, RetryElsewhere

TASK = "(uint32,uint32,bytes,bytes)"
SHAPES: list[tuple[str, ...]] = [
    (TASK,),
    ("(uint32,bytes)", "(uint32,bytes32)"),
    ("(uint32,uint256)", "(uint32,bytes32)"),
    ("bytes", "(uint8,(uint256,bytes),bytes32)", "uint256"),
    ("(uint256,uint32,bytes,uint32)",),
    ("(string,uint32)", "bytes"),
    ("uint64[]", "bytes"),
    ("bool", "address", "bytes4", "(bytes32,bool)"),
    ("bytes[]", "(uint8,string)[]", "(uint256,uint256)[2]", "bytes[3]"),
    ("uint32[][]", "((uint256,uint256)[],(uint256[2],uint256[2]),(bytes,uint8)[2])"),
    ("int64", "uint256"),
]


def _values(kind: str) -> st.SearchStrategy[Any]:
    if kind.endswith("]"):
        inner, _, length = kind[:-1].rpartition("[")
        least, most = (int(length), int(length)) if length else (0, 3)
        return st.lists(_values(inner), min_size=least, max_size=most).map(tuple)
    if kind.startswith("("):
        depth, parts = 0, [""]
        for character in kind[1:-1]:
            depth += (character == "(") - (character == ")")
            if character == "," and depth == 0:
                parts.append("")
            else:
                parts[-1] += character
        return st.tuples(*map(_values, parts))
    return _single_values(kind)


def _single_values(kind: str) -> st.SearchStrategy[Any]:
    if kind.startswith("uint"):
        return st.integers(0, 2 ** int(kind[4:]) - 1)
    if size := kind.removeprefix("bytes") if kind != "bytes" and kind.startswith("bytes") else "":
        return st.binary(min_size=int(size), max_size=int(size))
    return {
        "string": st.text(max_size=40),
        "bytes": st.binary(max_size=100),
        "int64": st.integers(-(2**63), 2**63 - 1),
        "bool": st.booleans(),
        "address": st.binary(min_size=20, max_size=20).map(lambda octets: "0x" + octets.hex()),
    }[kind]


shaped = st.sampled_from(SHAPES).flatmap(lambda kinds: st.tuples(st.just(kinds), st.tuples(*map(_values, kinds))))


@given(shaped)
def test_round_trip_agrees_with_eth_abi_on_both_paths(typed_values: tuple[tuple[str, ...], Any]) -> None:
    kinds, values = typed_values
    codec = Codec(*kinds)
    data = codec.encode(values)
    assert data == encode(kinds, values)
    assert codec.decode(data) == (tuple(values), data)


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**257), 2**257),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=40),
    st.just("0x" + "aB" * 20),
    st.just("\ud800"),
    st.binary(max_size=40).map(bytearray),
    st.lists(st.integers(0, 3), max_size=3),
)


def _replaced(value: Any, path: list[int], new: Any) -> Any:
    """Return a value with another one somewhere inside it."""
    if not path or not isinstance(value, tuple) or not value:
        return new
    at = path[0] % len(value)
    return (*value[:at], _replaced(value[at], path[1:], new), *value[at + 1 :])


def _encoded(encoder: Callable[[], bytes]) -> bytes | type[Exception]:
    try:
        return encoder()
    except Exception as error:
        return type(error)


@given(shaped, st.lists(st.integers(0, 5), min_size=1, max_size=4), odd)
def test_odd_values_encode_or_fail_as_eth_abi_says(
    typed_values: tuple[tuple[str, ...], Any], path: list[int], new: Any
) -> None:
    kinds, values = typed_values
    values = _replaced(values, path, new)
    assert _encoded(lambda: Codec(*kinds).encode(values)) == _encoded(lambda: encode(kinds, values))


def test_calls_of_answers_take_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [Codec(*kinds).encode([empty_value(kind) for kind in kinds]) for kinds in SHAPES[:-1]]
    monkeypatch.setattr("watcher.chain.convention.abi._eth_abi", None)
    assert [Codec(*kinds).encode([empty_value(kind) for kind in kinds]) for kinds in SHAPES[:-1]] == expected


@fuzzed
@given(st.data())
def test_constants_are_encoded_as_every_value(data: Any) -> None:
    kinds = data.draw(st.sampled_from(SHAPES))
    values = [data.draw(_values(kind)) for kind in kinds]
    place = data.draw(st.integers(0, len(kinds) - 1))
    assert Codec(*kinds, constants={place: values[place]}).encode(values) == encode(kinds, values)


def test_contract_structs_take_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec(TASK)
    data = codec.encode([(7, 66, b"hello", b"\x00")])
    monkeypatch.setattr("watcher.chain.convention.abi._eth_abi", None)
    assert codec.decode(data) == (((7, 66, b"hello", b"\x00"),), data)


@fuzzed
@given(
    shaped,
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(-64, 64),
)
def test_damaged_data_decodes_as_eth_abi_does_or_is_quarantined(
    typed_values: tuple[tuple[str, ...], Any], damage: list[tuple[int, int]], change: int
) -> None:
    kinds, values = typed_values
    codec = Codec(*kinds)
    data = bytearray(codec.encode(values))
    for place, value in damage:
        data[place % len(data)] = value
    raw = bytes(data) + b"\x01" * change if change > 0 else bytes(data)[: len(data) + change]
    try:
        read, canonical = codec.decode(raw)
    except Quarantine:
        with pytest.raises(Exception):  # noqa: B017, PT011 - eth-abi has no root for what it raises
            encode(kinds, decode(kinds, raw))
        return
    assert read == decode(kinds, raw)
    assert canonical == encode(kinds, read)


@fuzzed
@given(st.sampled_from(SHAPES), st.binary(max_size=300))
def test_garbage_raises_quarantine_and_nothing_else(kinds: tuple[str, ...], data: bytes) -> None:
    reasons: list[str] = []
    try:
        Codec(*kinds).decode(data)
    except Quarantine as error:
        reasons.append(str(error))
    assert all(0 < len(reason) < 200 for reason in reasons)


def test_a_length_of_two_to_the_256_is_quarantined() -> None:
    word = (2**256 - 1).to_bytes(32)
    data = (32).to_bytes(32) + b"".join(n.to_bytes(32) for n in (1, 2, 128, 160)) + word + word
    with pytest.raises(Quarantine):
        Codec(TASK).decode(data)


def test_trailing_bytes_are_dropped_from_the_canonical_form() -> None:
    codec = Codec(TASK)
    data = codec.encode([(7, 66, b"hello", b"\x00")])
    assert codec.decode(data + b"\xff" * 32) == (((7, 66, b"hello", b"\x00"),), data)


COUNT: View[int] = View("latestTaskNum()", number_of)
HASH: View[bytes | None] = View("allTaskHashes(uint32)", hash_or_none, (None,))


def test_views_have_the_selectors_of_the_contract() -> None:
    assert COUNT.call().hex() == "8b00ce7c"
    assert HASH.call(7).hex() == "2d89f6fc" + (7).to_bytes(32).hex()
    assert View("allTaskResponses(uint32)", hash_or_none, (None,)).call(0)[:4].hex() == "2cb223d5"
    assert View("TASK_RESPONSE_WINDOW_BLOCK()", number_of).call().hex() == "1ad43189"


@given(st.integers(0, 2**256 - 1))
def test_a_word_is_read_as_its_number_and_zero_is_no_hash(number: int) -> None:
    word = number.to_bytes(32)
    assert COUNT.read(word) == number
    assert HASH.read(word) == (word if number else None)


@pytest.mark.parametrize("answer", [b"", Reverted("execution reverted", None)])
def test_an_empty_answer_or_a_revert_means_no_such_function(answer: bytes | Reverted) -> None:
    with pytest.raises(NoSuchView, match=r"no latestTaskNum\(\).*check task_manager.address"):
        COUNT.read(answer)


@pytest.mark.parametrize("size", [1, 31, 33, 64])
def test_an_answer_of_another_size_than_one_word_is_refused(size: int) -> None:
    with pytest.raises(RetryElsewhere, match="instead of 32") as caught:
        COUNT.read(b"\x00" * size)
    assert not isinstance(caught.value, NoSuchView)
