"""Names from outside in one line: cut, counted, and compared with the names there are."""

import pytest

from watcher.text import did_you_mean, setting, setting_of_shadow, shorten_list, to_hex
from watcher.validation import is_loopback


def test_list_names_the_first_and_counts_the_rest() -> None:
    assert shorten_list([3, 4], 2) == "3, 4"
    assert shorten_list([3, 4, 5, 6], 2) == "3, 4 and 2 more"
    assert shorten_list(["a\nb", "x" * 200], 5, each=10) == "a\\nb, xxxxxxxxxx..."


def test_suggestion_is_the_nearest_name_in_the_form_to_write() -> None:
    assert did_you_mean("colour", ["color", "size"]) == "; did you mean color?"
    assert did_you_mean("hooks", ["hook"], show="[{}]".format) == "; did you mean [hook]?"
    assert did_you_mean("colour", ["size"]) == ""
    assert did_you_mean("x" * 1_000_000, ["color"]) == ""


def test_message_about_the_shadow_names_the_setting_of_the_shadow() -> None:
    assert setting_of_shadow(f"{setting('a:b')}: no") == "hook.shadow.target = 'a:b': no"
    assert setting_of_shadow("no worker answers hook.target = 1") == "no worker answers hook.target = 1"


def test_hex_has_two_lower_case_digits_a_byte() -> None:
    assert to_hex(b"\x00\xab") == "0x00ab"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("a.localhost", False), ("", False)],
)
def test_loopback_is_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
