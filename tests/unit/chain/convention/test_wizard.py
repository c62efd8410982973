"""The wizard convention: the vectors of the public contracts, and poison logs."""

from dataclasses import replace

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from tests.wizard import CREATED_TOPIC, RESPONDED_TOPIC, WIZARD, sig_hash, task_hash
from watcher.chain.convention.convention import convention
from watcher.chain.rpc.replies import Log
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Sighting

C = WIZARD
TASK = "(uint32,uint32,bytes,bytes)"
MANAGER = b"\x11" * 20
U32 = st.integers(0, 2**32 - 1)


def task_log(index: int, data: bytes) -> Log:
    return Log(MANAGER, (CREATED_TOPIC, index.to_bytes(32)), data, 12, b"\x01" * 32, b"\x02" * 32, 3)


def response_log(data: bytes) -> Log:
    return Log(MANAGER, (RESPONDED_TOPIC,), data, 13, b"\x03" * 32, b"\x04" * 32, 5)


def test_topics_are_those_of_the_public_contracts() -> None:
    assert CREATED_TOPIC.hex() == "ba37832bdd21742b86a633043b923a9aa978f1cfb2b274c6661eb573cf092bf0"
    assert RESPONDED_TOPIC.hex() == "9b96c981c7c70a9f1702abb044782746c11d090f58ea34b12daf2cc53cf8ab5f"
    assert C.topics0 == (CREATED_TOPIC, RESPONDED_TOPIC)


def test_hashes_agree_with_the_published_vectors() -> None:
    assert task_hash(3003011, 66, bytes.fromhex("1234"), b"\x00").hex() == (
        "a4ab598f7807886a600c9c1116d8266ebfe68efdf642e926df14d5d6d9512a0d"
    )
    assert sig_hash(100, bytes.fromhex("abcd")).hex() == (
        "6ed3cb0202b0d5b8d03b1d993798d0c8947eb42694b6bbf129a1cee62ccac6d8"
    )
    assert sig_hash(7, b"\x2a").hex() == "b6915701c9e5bb3204260da41e761dea1ed87bb4c456ae53cf26c767224374e7"


@given(U32, U32, U32, st.binary(max_size=200), st.binary(max_size=64), st.none() | U32)
def test_a_task_is_read_back_with_the_hash_the_contract_stores(
    index: int, created: int, threshold: int, message: bytes, quorums: bytes, window: int | None
) -> None:
    data = encode([TASK], [(created, threshold, message, quorums)])
    task = C.decode_task(task_log(index, data), 31337, window)
    assert (task.chain_id, task.task_manager, task.task_index) == (31337, MANAGER, index)
    assert (task.created_block, task.quorum_threshold) == (created, threshold)
    assert (task.message, task.quorum_numbers) == (message, quorums)
    assert task.task_hash == keccak(data) == task_hash(created, threshold, message, quorums)
    assert task.deadline_block == (None if window is None else created + window)
    assert task.seen_at == Sighting(12, b"\x01" * 32, b"\x02" * 32, 3)


@given(U32, st.binary(max_size=200), U32, st.binary(min_size=32, max_size=32))
def test_a_response_is_read_back_with_the_hash_the_contract_stores(
    index: int, message: bytes, block: int, non_signers: bytes
) -> None:
    data = encode(["(uint32,bytes)", "(uint32,bytes32)"], [(index, message), (block, non_signers)])
    seen = C.decode_response(response_log(data))
    assert (seen.task_index, seen.message) == (index, message)
    assert seen.log == RESPONDED_TOPIC + data
    assert seen.response_hash == keccak(data) == C.response_hash(index, message, seen.log)
    assert C.response_hash(index, message + b"!", seen.log) is None


def test_a_log_in_another_layout_gets_the_hash_of_its_content() -> None:
    data = encode([TASK], [(5, 66, b"hello", b"\x00")])
    task = C.decode_task(task_log(1, data + b"\x00" * 32), 1, 30)
    assert task.task_hash == keccak(data)


@fuzzed
@given(st.lists(st.binary(min_size=32, max_size=32), max_size=4), st.booleans(), st.binary(max_size=400))
def test_hostile_log_raises_quarantine_and_nothing_else(topics: list[bytes], true_topic: bool, data: bytes) -> None:
    log = replace(task_log(0, data), topics=tuple([CREATED_TOPIC, *topics] if true_topic else topics))
    reasons: list[str] = []
    for read in (lambda: C.decode_task(log, 1, 30), lambda: C.decode_response(log)):
        try:
            read()
        except Quarantine as error:
            reasons.append(str(error))
    assert reasons, "no log is both a task and a response"
    assert all(0 < len(reason) < 300 for reason in reasons)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"topics": (CREATED_TOPIC,)}, "2 topics"),
        ({"topics": (RESPONDED_TOPIC, b"\x00" * 32)}, "2 topics"),
        ({"topics": (CREATED_TOPIC, (2**32).to_bytes(32))}, "uint32"),
        ({"data": b""}, "abi.encode"),
        ({"data": encode([TASK], [(5, 66, b"hello", b"\x00" * 257)])}, "too long"),
    ],
)
def test_a_quarantined_log_says_why(change: dict[str, object], message: str) -> None:
    log = task_log(1, encode([TASK], [(5, 66, b"hello", b"\x00")]))
    with pytest.raises(Quarantine, match=message):
        C.decode_task(replace(log, **change), 1, 30)  # type: ignore[arg-type]


def test_the_message_limit_holds_to_the_byte_for_tasks_and_responses() -> None:
    small = convention("wizard", message_limit_bytes=100)
    for size, data_of in ((100, b"x" * 100), (101, b"x" * 101), (5000, b"x" * 5000)):
        created = task_log(1, encode([TASK], [(5, 66, data_of, b"\x00")]))
        responded = response_log(encode(["(uint32,bytes)", "(uint32,bytes32)"], [(1, data_of), (6, b"\x00" * 32)]))
        if size == 100:
            assert small.decode_task(created, 1, 30).message == data_of
            assert small.decode_response(responded).message == data_of
            continue
        with pytest.raises(Quarantine):
            small.decode_task(created, 1, 30)
        with pytest.raises(Quarantine):
            small.decode_response(responded)


def test_an_unknown_convention_is_a_configuration_problem() -> None:
    with pytest.raises(FixConfiguration, match=r"task_manager\.convention"):
        convention("wizzard")
