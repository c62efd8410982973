"""Text from outside in one line: escaped, cut, counted, and compared with the names there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.text import clean, did_you_mean, escape, shorten_list, to_hex
from watcher.validation import is_loopback


@given(st.text())
def test_escaped_text_is_printable_and_plain_text_stays_as_it_is(text: str) -> None:
    redacted = escape(text)
    assert redacted.isprintable()
    assert (redacted == text) == text.isprintable()


@pytest.mark.parametrize(
    "char", ["\n", "\r", "\x1b", "\x00", "\x85", "\x9b", "\u2028", "\u2029", "\u202e", "\u2066", "\ud800"]
)
def test_characters_that_break_or_turn_a_line_are_spelled_out(char: str) -> None:
    assert char not in escape(f"a{char}b")
    assert escape(f"a{char}b").startswith("a\\")


@given(st.text(st.characters(), max_size=200), st.integers(1, 60))
def test_clean_text_is_one_bounded_line_and_clean_is_idempotent(text: str, limit: int) -> None:
    safe = clean(text, limit)
    assert len(safe) <= limit + 3
    assert not any(ord(char) < 32 or char in "\x7f\x9b\u2028\u202e" for char in safe)
    assert clean(safe, limit) == safe


def test_list_names_the_first_and_counts_the_rest() -> None:
    assert shorten_list([3, 4], 2) == "3, 4"
    assert shorten_list([3, 4, 5, 6], 2) == "3, 4 and 2 more"
    assert shorten_list(["a\nb", "x" * 200], 5, each=10) == "a\\nb, xxxxxxxxxx..."


def test_suggestion_is_the_nearest_name_in_the_form_to_write() -> None:
    assert did_you_mean("colour", ["color", "size"]) == "; did you mean color?"
    assert did_you_mean("hooks", ["hook"], show="[{}]".format) == "; did you mean [hook]?"
    assert did_you_mean("colour", ["size"]) == ""
    assert did_you_mean("x" * 1_000_000, ["color"]) == ""


def test_hex_has_two_lower_case_digits_a_byte() -> None:
    assert to_hex(b"\x00\xab") == "0x00ab"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("a.localhost", False), ("", False)],
)
def test_loopback_is_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
