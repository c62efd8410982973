"""The part of Protocol Buffers that performers speak, on bytes of the specification's examples and on any others."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.hook.protobuf import bytes_field, read_fields


def test_fields_of_the_specifications_examples_are_read() -> None:
    assert read_fields(bytes.fromhex("089601")) == {1: 150}
    assert read_fields(bytes.fromhex("120774657374696e67")) == {2: b"testing"}
    assert read_fields(bytes.fromhex("0d010203041101020304050607080a00")) == {
        1: b"",
        2: bytes(range(1, 9)),
    }
    assert read_fields(b"") == {}


@given(st.integers(1, 15), st.binary() | st.integers(0, 70_000).map(bytes))
def test_written_field_is_read_back(number: int, value: bytes) -> None:
    assert read_fields(bytes_field(number, value)) == {number: value}


@pytest.mark.parametrize("body", ["08", "0a05aa", "0b", "ff" * 11, "0a" + "ff" * 9 + "01", "0900"])
def test_broken_message_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match=r"not a message|without end"):
        read_fields(bytes.fromhex(body))


@given(st.binary())
def test_any_bytes_are_fields_or_refused(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert all(isinstance(value, bytes | int) for value in read_fields(body).values())
