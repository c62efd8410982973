"""The words between daemon and worker: everything comes back whole, and nonsense is known as nonsense."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher.errors import AttemptFailed
from watcher.hook import messages, wire
from watcher.hook.protocol import Answer
from watcher.task import Later, Sighting, Skip, Task
from watcher.testing import make_task

uint256 = st.integers(0, 2**256 - 1)
hash32 = st.binary(min_size=32, max_size=32)
tasks = st.builds(
    Task,
    chain_id=uint256,
    task_manager=st.binary(min_size=20, max_size=20),
    task_index=uint256,
    task_hash=hash32,
    created_block=uint256,
    message=st.binary(max_size=200),
    quorum_numbers=st.binary(max_size=8),
    quorum_threshold=uint256,
    deadline_block=st.none() | uint256,
    deadline_s=st.none() | uint256,
    seen_at=st.builds(Sighting, uint256, hash32, hash32, uint256),
)
answers: st.SearchStrategy[Answer] = st.one_of(
    st.binary(max_size=200),
    st.builds(Skip, st.text(st.characters(categories=("L", "N")), max_size=50)),
    st.builds(Later, st.integers(1, 1000), st.floats(0, 1000), st.just("not yet")),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
keys = st.sampled_from(
    ["run", "us", "files", "last", "not_begun", "answer", "skip", "later", "failed", "version", "not_loaded"]
)
LIMIT = 1000


def through(fields: wire.Fields) -> wire.Fields:
    packed = wire.pack(fields)
    head, body = packed[:4], packed[4:]
    assert wire.length(head, len(body)) == len(body)
    return wire.unpack(body)


@given(st.builds(messages.TaskRequest, st.integers(0), tasks, st.none() | st.floats(0, 1e9), st.booleans()))
def test_a_task_arrives_as_it_was_sent(request: messages.TaskRequest) -> None:
    assert messages.read_task(through(messages.write_task(request))) == request


@given(st.integers(0), answers)
def test_an_answer_arrives_as_it_was_sent(run: int, answer: Answer) -> None:
    fields = through(messages.write_answer(run, answer))
    assert messages.read_run(fields) == run
    assert messages.read_answer(fields, LIMIT) == answer


def test_load_request_and_its_reply_arrive_as_they_were_sent() -> None:
    order = messages.LoadRequest("m:f", "/srv/hook", 5)
    assert messages.read_load(through(messages.write_load(order))) == order
    for start in (messages.Ready("m:f@123"), messages.NotLoaded("no such module")):
        assert messages.read_start(through(messages.write_start(start))) == start


@fuzzed
@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_broken_message(body: bytes) -> None:
    try:
        assert isinstance(wire.unpack(body), dict)
    except wire.BrokenMessage:
        pass


@fuzzed
@given(st.dictionaries(keys, json_values, max_size=4))
def test_any_object_is_an_answer_a_failure_or_a_broken_message(fields: dict[str, Any]) -> None:
    for read in (
        messages.read_start,
        lambda f: messages.read_reply(f, LIMIT),
        lambda f: messages.read_answer(f, LIMIT),
    ):
        message = ""
        try:
            read(fields)
        except (AttemptFailed, wire.BrokenMessage) as error:
            message = str(error)
        assert len(message) < 1500


def test_endless_nesting_and_endless_numbers_are_broken_messages() -> None:
    for body in (b"[" * 100_000, b'{"a":' * 50_000, b"9" * 100_000, b"\xff\xfe"):
        with pytest.raises(wire.BrokenMessage):
            wire.unpack(body)


def test_message_is_refused_before_it_is_read_when_it_is_too_long() -> None:
    with pytest.raises(wire.BrokenMessage, match="4,294,967,295 bytes"):
        wire.length(b"\xff\xff\xff\xff", messages.message_limit_bytes(LIMIT))


def test_an_answer_over_the_limit_is_refused_on_the_daemons_side_too() -> None:
    with pytest.raises(AttemptFailed, match="1,001 bytes"):
        messages.read_answer({"run": 1, "answer": "00" * 1001}, LIMIT)


@pytest.mark.parametrize("text", ["0", "0x00", "00 00", "zz", "\u0660\u0660"])
def test_hex_is_taken_only_in_its_one_spelling(text: str) -> None:
    with pytest.raises(wire.BrokenMessage):
        messages.read_answer({"run": 1, "answer": text}, LIMIT)


def test_fields_of_an_event_arrive_with_their_bytes() -> None:
    fields = {"index": 1 << 255, "task": {"data": b"\x01", "list": [b"", [True, None]]}, "owner": "0xAb"}
    packed = wire.pack(messages.write_task(messages.TaskRequest(1, make_task(fields=fields))))
    assert messages.read_task(wire.unpack_trusted(packed[4:])).task.fields == fields
