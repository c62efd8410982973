"""Messages and answers as values: the same bytes as Solidity's and eth-abi's, and a clear error for everything else."""

import json
import pickle
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from eth_abi.abi import encode as oracle
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from watcher.abi.json_form import as_text
from watcher.abi.layout import BadType, Layout, Misfit, layout

OWNER = "0x" + "22" * 20
LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "uint8": st.integers(0, 255),
    "uint256": st.integers(0, 2**256 - 1),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "int256": st.integers(-(2**255), 2**255 - 1),
    "bool": st.booleans(),
    "address": st.binary(min_size=20, max_size=20).map(to_checksum_address),
    "bytes4": st.binary(min_size=4, max_size=4),
    "bytes32": st.binary(min_size=32, max_size=32),
    "bytes": st.binary(max_size=70),
    "string": st.text(max_size=40),
}


@dataclass(frozen=True)
class Case:
    """A type as people write it, as eth-abi writes it, its values, and the types of a tuple's members."""

    text: str
    plain: str
    values: st.SearchStrategy[Any]
    members: tuple[str, ...] = ()


@st.composite
def cases(draw: Callable[..., Any], depth: int = 3) -> Case:
    form = draw(st.sampled_from(["leaf", "leaf", "array", "fixed", "tuple"] if depth else ["leaf"]))
    if form == "leaf":
        name = draw(st.sampled_from(sorted(LEAVES)))
        return Case(name, name, LEAVES[name])
    if form == "tuple":
        case: Case = draw(tuples(depth - 1))
        return case
    item = draw(cases(depth - 1))
    size = draw(st.integers(1, 3)) if form == "fixed" else None
    mark = f"[{size}]" if size else "[]"
    values = st.lists(item.values, min_size=size or 0, max_size=size or 3)
    return Case(item.text + mark, item.plain + mark, values)


@st.composite
def tuples(draw: Callable[..., Any], depth: int = 2, least: int = 1) -> Case:
    members = draw(st.lists(cases(depth), min_size=least, max_size=4))
    named = draw(st.booleans())
    texts = [f"{member.text} _m{place}" if named else member.text for place, member in enumerate(members)]
    types = tuple(member.plain for member in members)
    values = st.tuples(*(member.values for member in members))
    return Case(f"({', '.join(texts)})", f"({','.join(types)})", values, types)


def made(text: str, name: str = "message") -> Layout:
    values = layout(name, text)
    assert values is not None
    return values


@given(st.data())
def test_the_values_of_a_list_are_encoded_as_eth_abi_does(data: st.DataObject) -> None:
    case = data.draw(tuples(least=2))
    value = data.draw(case.values)
    values = made(case.text)
    encoded = values.encode(value)
    assert encoded == oracle(case.members, value)
    assert values.decode(encoded) == value
    assert values.is_canonical(encoded)


@given(st.data())
def test_one_value_is_encoded_as_eth_abi_does_and_survives_json(data: st.DataObject) -> None:
    case = data.draw(cases())
    value = data.draw(case.values)
    text = f"tuple{case.text}" if case.text.startswith("(") else case.text
    values = made(text)
    encoded = values.encode(value)
    assert encoded == oracle([case.plain], [value])
    assert values.decode(encoded) == value
    form = json.loads(json.dumps(values.to_json(values.decode(encoded))))
    assert values.encode_json(form) == encoded


@given(st.data())
def test_damaged_data_decode_or_are_a_misfit(data: st.DataObject) -> None:
    case = data.draw(tuples(least=2))
    values = made(case.text)
    encoded = bytearray(values.encode(data.draw(case.values)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(encoded) - 1))
        encoded[place] = data.draw(st.integers(0, 255))
    encoded = encoded[: data.draw(st.integers(0, len(encoded)))] + data.draw(st.binary(max_size=40))
    try:
        value = values.decode(bytes(encoded))
    except Misfit:
        return
    assert values.decode(values.encode(value)) == value


@given(st.binary(max_size=400))
def test_any_bytes_decode_or_are_a_misfit(data: bytes) -> None:
    for text in ("(uint256[][] a, string b)", "tuple(bytes[] a)[]", "(bool, address, bytes3, int8)", "string[2][]"):
        with suppress(Misfit):
            made(text).decode(data)


# The examples of the Contract ABI Specification: sam(bytes,bool,uint256[]), f(uint256,uint32[],bytes10,bytes),
# g(uint256[][],string[]), without their selectors.
SPECIFICATION = [
    (
        "(bytes, bool, uint256[])",
        (b"dave", True, [1, 2, 3]),
        "60 1 a0 4 dave 3 1 2 3",
    ),
    (
        "(uint256, uint32[], bytes10, bytes)",
        (0x123, [0x456, 0x789], b"1234567890", b"Hello, world!"),
        "123 80 1234567890 e0 2 456 789 d Hello,_world!",
    ),
    (
        "(uint256[][], string[])",
        ([[1, 2], [3]], ["one", "two", "three"]),
        "40 140 2 40 a0 2 1 2 1 3 3 60 a0 e0 3 one 3 two 5 three",
    ),
]
_TEXTS = ("dave", "1234567890", "Hello,_world!", "one", "two", "three")


def in_words(text: str) -> bytes:
    parts = (
        part.replace("_", " ").encode().ljust(32, b"\0") if part in _TEXTS else int(part, 16).to_bytes(32)
        for part in text.split()
    )
    return b"".join(parts)


@pytest.mark.parametrize(("text", "value", "data"), SPECIFICATION)
def test_the_examples_of_the_specification(text: str, value: Any, data: str) -> None:
    assert made(text).encode(value) == in_words(data)
    assert made(text).decode(in_words(data)) == value


def test_a_struct_has_an_offset_in_front_and_a_list_has_none() -> None:
    listed = made("(uint256 number, string text)").encode((7, "hi"))
    struct = made("tuple(uint256 number, string text)").encode((7, "hi"))
    assert struct == (32).to_bytes(32) + listed
    assert made("((uint256 number, string text) order)").encode(((7, "hi"),)) == struct
    # Static values lie in the same bytes either way.
    assert made("(uint256, address)").encode((7, OWNER)) == made("tuple(uint256, address)").encode((7, OWNER))


def test_members_have_names_that_python_can_write() -> None:
    values = made("(address from, uint256 _amount, uint32 index, uint32, uint8 count, bytes32 $)")
    message = values.decode(values.encode((OWNER, 5, 6, 7, 8, bytes(32))))
    assert (message.from_, message.amount, message.index, message.value3, message.count, message[1]) == (
        *(OWNER, 5, 6, 7, 8),
        5,
    )
    assert repr(made("(uint256 number)").decode((4).to_bytes(32))) == "message(number=4)"
    assert pickle.loads(pickle.dumps(message)) == tuple(message)


def test_names_that_meet_as_attributes_count_by_their_place() -> None:
    message = made("(uint8 a, uint8 _a, uint8 value0)").decode(b"".join(n.to_bytes(32) for n in (1, 2, 3)))
    assert tuple(message) == (1, 2, 3)


def test_a_struct_is_given_as_tuple_mapping_or_dataclass() -> None:
    @dataclass
    class Answer:
        from_: str
        amount: int

    values = made("(address from, uint256 _amount)", "response")
    expected = values.encode((OWNER, 5))
    assert values.encode([OWNER, 5]) == expected
    assert values.encode({"from": OWNER, "_amount": 5}) == expected
    assert values.encode({"_amount": 5, "from_": OWNER}) == expected
    assert values.encode(Answer(OWNER, 5)) == expected


@pytest.mark.parametrize("value", [441, (441,), [441], {"result": 441}])
def test_the_only_member_may_stand_without_its_tuple(value: Any) -> None:
    assert made("(uint256 result)", "response").encode(value) == (441).to_bytes(32)


@pytest.mark.parametrize("value", [441, "441", [441], ["441"], {"result": "441"}])
def test_the_only_member_may_stand_without_its_tuple_in_json(value: Any) -> None:
    assert made("(uint256 result)", "response").encode_json(value) == (441).to_bytes(32)


def test_a_list_that_fits_with_the_tuple_and_without_is_refused() -> None:
    values = made("(uint256[][])", "response")
    assert values.encode([[1]]) == values.encode(([[1]],))
    with pytest.raises(Misfit, match="with the tuple around it and without"):
        values.encode([[]])


WRONG = [
    ("(uint256 number, address owner)", (1, "abc"), "response.owner: expected address, got 'abc'"),
    ("(address owner)", "abc", "response.owner: expected address, got 'abc'"),
    ("(uint256)", "abc", "response: expected uint256, got 'abc'"),
    ("(uint256)", None, "response: expected uint256, got nothing (None)"),
    ("(uint256)", bytes(32), "response: expected uint256, got 32 bytes"),
    ("(uint8)", 256, "response: expected uint8 (0 to 255), got 256"),
    ("uint256", -1, "response: expected uint256 (0 to 2**256 - 1), got -1"),
    ("int16", 2**15, "response: expected int16 (-32768 to 32767), got 32768"),
    ("uint256", 10**1000, "response: expected uint256 (0 to 2**256 - 1), got a number that is far too big"),
    ("uint256", True, "response: expected uint256, got True"),
    ("uint256", 441.0, "response: expected uint256, got the float 441.0"),
    ("bool", 1, "response: expected bool, got 1"),
    ("bytes4", b"abc", "response: expected bytes4, got 3 bytes"),
    ("bytes", "0x12", "response: expected bytes, got '0x12'"),
    ("string", b"hi", "response: expected string, got 2 bytes"),
    ("string", "\ud800", "response: expected string, got text that UTF-8 cannot hold"),
    ("uint8[2]", [1], "response: expected uint8[2], got 1 items"),
    ("uint8[]", {1}, "response: expected uint8[], got a value of type set"),
    ("(uint8, uint8)", (1,), "response: expected (uint8, uint8), got 1 values"),
    ("(uint8 a, uint8 b)", {"a": 1}, "response: expected (uint8 a, uint8 b), and b is missing"),
    ("(uint8 a, uint8 b)", {"a": 1, "c": 2}, "response: expected (uint8 a, uint8 b), which has no member 'c'"),
    ("((address owner, uint8)[] orders, bool)", ([(OWNER, 1), (OWNER, "x")], True), "response.orders[1][1]: expected"),
    ("address", "0x" + "fB" * 20, "checksum"),
    ("address", OWNER[:-2], "response: expected address, got '0x2222"),
]


@pytest.mark.parametrize(("text", "value", "reason"), WRONG)
def test_a_value_of_the_wrong_type_is_refused_by_name(text: str, value: Any, reason: str) -> None:
    with pytest.raises(Misfit) as raised:
        made(text, "response").encode(value)
    assert reason in f"{raised.value.place('response')}: {raised.value.reason}"


@pytest.mark.parametrize(
    "value", [441.0, "0x1b9", "4e2", "", " 441", "٤٤١", True, [1, 2], {}, {"other": 1}, None, [[]]]
)
def test_a_number_in_json_is_a_number_or_decimal_text(value: Any) -> None:
    with pytest.raises(Misfit):
        made("(uint256 result)", "response").encode_json(value)


@pytest.mark.parametrize("text", ["0x1", "12", "0x zz", "0x12 34", ""])
def test_bytes_in_json_are_hex(text: str) -> None:
    with pytest.raises(Misfit, match="two hex digits"):
        made("bytes", "response").encode_json(text)


def test_numbers_are_decimal_text_in_json() -> None:
    values = made("(uint256 big, int8[] small)")
    assert values.to_json(values.decode(values.encode((2**255, [-1])))) == {"big": str(2**255), "small": ["-1"]}


def test_values_are_shown_on_one_line() -> None:
    values = made("(uint256 n, (address owner, bool ok)[] orders, string)")
    form = values.to_json(values.decode(values.encode((1, [(OWNER, True)], "a"))))
    assert as_text(form) == f"1, [(owner={OWNER}, ok=true)], a"
    assert as_text({"n": "1", "x": {"y": ["2"]}}) == "n=1, x=(y=[2])"
    assert as_text("441") == "441"


UNREADABLE = [
    ("(uint256, address)", (1).to_bytes(32) + b"\xff" * 32, "message[1]", 32, "upper 12 bytes"),
    ("(uint256 n, address owner)", (1).to_bytes(32), "message.owner", 32, "the data ends at byte 32"),
    ("uint256", bytes(31), "message", 0, "the data ends at byte 31"),
    ("uint256", b"", "message", 0, "the data ends at byte 0"),
    ("uint8", (256).to_bytes(32), "message", 0, "expected uint8, and its value is out of range"),
    ("int8", (128).to_bytes(32), "message", 0, "out of range"),
    ("bool", (2).to_bytes(32), "message", 0, "neither 0 nor 1"),
    ("bytes3", b"abcd" + bytes(28), "message", 0, "not zero"),
    ("string", (32).to_bytes(32) + (1).to_bytes(32) + b"\xff" + bytes(31), "message", 64, "not UTF-8"),
    ("bytes", (2**255).to_bytes(32), "message", 0, "its offset above 2**255 leads beyond"),
    ("bytes", (32).to_bytes(32) + (2**60).to_bytes(32), "message", 32, f"its length is {2**60} bytes"),
    ("uint8[]", (32).to_bytes(32) + (2**60).to_bytes(32), "message", 32, f"it has {2**60} items"),
    ("uint8[]", (32).to_bytes(32) + b"\xff" * 32, "message", 32, "it has above 2**255 items"),
]


@pytest.mark.parametrize(("text", "data", "place", "byte", "reason"), UNREADABLE)
def test_data_that_do_not_decode_are_named(text: str, data: bytes, place: str, byte: int, reason: str) -> None:
    with pytest.raises(Misfit) as raised:
        made(text).decode(data)
    assert (raised.value.place("message"), raised.value.byte) == (place, byte)
    assert reason in raised.value.reason


def test_what_solidity_decodes_is_decoded() -> None:
    listed = made("(string a, bytes b)")
    swapped = in_words("80 40 2") + b"\x01\x02" + bytes(30) + in_words("3 one")
    assert listed.decode(swapped + b"trailing") == ("one", b"\x01\x02")
    assert not listed.is_canonical(swapped)
    # The padding of bytes is not read, and may be missing.
    assert made("bytes").decode((32).to_bytes(32) + (1).to_bytes(32) + b"\x07") == b"\x07"
    assert made("bytes").decode((32).to_bytes(32) + (1).to_bytes(32) + b"\x07" + b"\xff" * 31) == b"\x07"


def test_offsets_that_share_their_data_are_no_bomb() -> None:
    count = 2_000
    shared = (32).to_bytes(32) + count.to_bytes(32) + (32 * count).to_bytes(32) * count
    body = (200_000).to_bytes(32) + bytes(200_000)
    with pytest.raises(Misfit, match="overlap"):
        made("bytes[]").decode(shared + body)
    nested = b"".join([(32).to_bytes(32), (64).to_bytes(32), (0).to_bytes(32) * 64])
    for depth in range(2, 12):
        with pytest.raises(Misfit):
            made("uint8" + "[]" * depth).decode(nested)


BAD = [
    ("(unit256,address)", r"'unit256' is no ABI type \(character 2\); did you mean uint256\?"),
    ("(uint256,addres)", r"\(character 10\); did you mean address\?"),
    ("(uint256", r"missing before the end \(character 9\)"),
    ("uint256)", r"'\)' follows a complete type \(character 8\)"),
    ("(uint256 a, uint8 a)", r"the name a is there twice \(character 13\)"),
    ("()", "a type is missing"),
    ("(uint256,)", "a type is missing"),
    ("tuple", "tuple needs its members"),
    ("uint7", "did you mean uint"),
    ("bytes33", "did you mean bytes32"),
    ("uint256[0]", "the length of an array is 1 or more"),
    ("uint256[" + "9" * 5000 + "]", "longer than 4096"),
    ("uint256[" + "9" * 400 + "]", "not that of millions"),
    ("(" * 4000, "more than 16 types are nested"),
    ("uint8" + "[]" * 40, "more than 16 types are nested"),
    ("uint8[1000][1000]", "takes more than 1,048,576 bytes"),
    ("function", "is no ABI type"),
    ("mapping(uint=>uint)", "is no ABI type"),
    ("uint256 a b", "'b' follows"),
    (f"({','.join(['bool'] * 65)})", "64 members at most"),
    ("é", "a type is missing"),
]


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_a_text_that_is_no_type_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(BadType, match=reason):
        layout("message", text)


def test_types_are_read_as_solidity_writes_them() -> None:
    text = " ( uint  number,address payable owner , tuple(bytes memory data)[] calldata parts, int [2] [] x )"
    assert str(made(text)) == "(uint256 number, address owner, (bytes data)[] parts, int256[2][] x)"
    assert str(made("tuple(uint256 a)")) == "tuple(uint256 a)"
    assert str(made("uint256 number")) == "uint256"
    assert layout("message", " ") is None


def test_any_text_is_a_type_or_refused() -> None:
    seed = 7
    random_ = random.Random(seed)
    parts = ["(", ")", ",", "[", "]", "[3]", "uint256", "bytes", "tuple", "x", " ", "memory", "é", "\0", "9", "string"]
    for _ in range(3_000):
        text = "".join(random_.choices(parts, k=random_.randrange(12)))
        try:
            values = layout("message", text)
        except BadType:
            continue
        assert values is None or str(layout("message", str(values))) == str(values), text
