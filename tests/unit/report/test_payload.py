"""Messages and answers for people and for JSON: decoded by the hook's types, else by the convention's, else as hex."""

from types import SimpleNamespace
from typing import Any

from watcher.abi.layout import layout
from watcher.report.listing import value_fields
from watcher.report.payload import PART_LIMIT_BYTES, Decoder, first_difference

OWNER = "0x" + "22" * 20
MESSAGE = (2**200).to_bytes(32) + bytes(12) + b"\x22" * 20
TYPED = Decoder(
    "uint256",
    lambda data: int.from_bytes(data),
    message_values=layout("message", "(uint256 number, address owner)"),
    response_values=layout("response", "(uint8)"),
)


def test_message_of_a_known_type_has_values_in_their_json_form() -> None:
    payload = TYPED.payload_of_message(MESSAGE)
    assert payload.value == {"number": str(2**200), "owner": OWNER}
    assert payload.text == f"number={2**200}, owner={OWNER} (uint256 number, address owner)"


def test_message_that_does_not_decode_is_shown_as_hex() -> None:
    payload = TYPED.payload_of_message(b"\x12\x34")
    assert (payload.value, payload.type, payload.text) == (None, "bytes", "0x1234")


def test_answer_has_the_types_of_the_hook_before_those_of_the_convention() -> None:
    assert TYPED.payload_of_answer((7).to_bytes(32)).text == "7 (uint8)"
    beyond = TYPED.payload_of_answer((700).to_bytes(32))  # of another hook, perhaps
    assert (beyond.value, beyond.text) == (700, "700 (uint256)")


def test_values_stand_beside_the_columns_of_a_task() -> None:
    row: Any = SimpleNamespace(message=MESSAGE, response=(7).to_bytes(32))
    values = {"message_value": {"number": str(2**200), "owner": OWNER}, "response_value": ["7"]}
    assert value_fields(row, TYPED) == values
    row.response = None
    assert value_fields(row, TYPED)["response_value"] is None
    row.response = b"x"
    assert value_fields(row, Decoder()) == {"message_value": None, "response_value": None}


def test_long_answer_is_shown_by_its_begin() -> None:
    decoder = Decoder()
    assert decoder.part_of_answer(None) is None
    assert decoder.part_of_answer(b"hello") == decoder.payload_of_answer(b"hello")
    part = decoder.part_of_answer(bytes(PART_LIMIT_BYTES + 1))
    assert part is not None
    assert (part.hex, part.size_bytes) == ("0x" + "00" * PART_LIMIT_BYTES + "…", PART_LIMIT_BYTES + 1)


def test_first_difference_is_the_end_where_one_is_the_begin_of_the_other() -> None:
    assert [first_difference(b"abc", other) for other in (b"xbc", b"abx", b"ab", b"abc")] == [0, 2, 2, 3]
