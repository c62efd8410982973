"""The requests of the hosted operator API, byte for byte."""

import hashlib
import json
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak
from hypothesis import example, given, settings
from hypothesis import strategies as st

from watcher.chain.convention.convention import convention
from watcher.errors import Quarantine
from watcher.operator.request import ParamsStyle, disagreement, operator_request, probe_request, proxy_request
from watcher.task import Accepted, Call, Refused, Sighting, Task

RESPONSE = bytes.fromhex("abcd")
WIZARD = convention("wizard")
CALL = Call("respondToTask", b"\x12", bytes(range(32)), 7, (0,), (66,))
UINT32 = st.integers(0, 2**32 - 1)


def make_task(**changes: Any) -> Task:
    fields: dict[str, Any] = {
        "chain_id": 31337,
        "task_manager": bytes(20),
        "task_index": 100,
        "task_hash": bytes(32),
        "created_block": 3003011,
        "message": bytes.fromhex("1234"),
        "quorum_numbers": b"\x00",
        "quorum_threshold": 66,
        "deadline_block": None,
        "seen_at": Sighting(3003011, bytes(32), bytes(32), 0),
    }
    fields |= changes
    arguments = tuple(fields[name] for name in ("created_block", "quorum_threshold", "message", "quorum_numbers"))
    topics = WIZARD.created_topic + fields["task_index"].to_bytes(32)
    fields["log"] = topics + encode(["(uint32,uint32,bytes,bytes)"], [arguments])
    return Task(**fields)


def test_proxy_request_is_exactly_what_the_api_page_shows() -> None:
    request = proxy_request(make_task(), RESPONSE, method="respondToTask", request_id=7)
    assert request.body == (
        b'{"id":"7","jsonrpc":"2.0","method":"operator_createSigTaskResponse","params":[{"method":"respondToTask",'
        b'"task_created_block":3003011,"message":"0x1234","task_index":100,"resp_message":"0xabcd"}]}'
    )
    assert request.request_id == 7


def test_object_style_sends_the_object_without_the_array() -> None:
    request = proxy_request(make_task(), b"", method="respondToTask", request_id=1, params_style="object")
    assert json.loads(request.body)["params"]["resp_message"] == "0x"


def test_operator_request_matches_the_known_vector() -> None:
    call = WIZARD.call(make_task(), RESPONSE)
    request = operator_request(call, avs_name="my-avs", request_id=1)
    sent = json.loads(request.body)
    params = call.params_raw
    assert sent["method"] == "operator_createSigTask"
    assert sent["params"] == [
        {
            "avs_name": "my-avs",
            "method": "respondToTask",
            "params_raw": "0x" + params.hex(),
            "reference_block_number": 3003011,
            "quorum_numbers": [0],
            "quorum_threshold_percentages": [66],
            "sig_hash": "0x6ed3cb0202b0d5b8d03b1d993798d0c8947eb42694b6bbf129a1cee62ccac6d8",
        }
    ]
    assert request.sig_hash == keccak(encode(["(uint32,bytes)"], [(100, RESPONSE)]))
    # Two heads, then each tuple in place; no selector in front.
    expected = [0x40, 0x140, 0x2DD283, 0x42, 0x80, 0xC0, 2, 0x1234 << 240, 1, 0, 0x64, 0x40, 2, 0xABCD << 240]
    assert [int.from_bytes(params[i : i + 32]) for i in range(0, len(params), 32)] == expected
    assert len(params) == 448


def test_the_method_of_the_settings_stands_in_for_that_of_the_convention() -> None:
    sent = json.loads(operator_request(CALL, avs_name="a", method="other", request_id=1).body)["params"][0]
    assert sent["method"] == "other"


def test_each_quorum_gets_the_threshold() -> None:
    task = make_task(quorum_numbers=b"\x00\x01\x05", quorum_threshold=80)
    request = operator_request(WIZARD.call(task, b""), avs_name="a", request_id=1)
    sent = json.loads(request.body)["params"][0]
    assert (sent["quorum_numbers"], sent["quorum_threshold_percentages"]) == ([0, 1, 5], [80, 80, 80])


def test_only_another_digest_than_ours_is_a_disagreement() -> None:
    request = operator_request(CALL, avs_name="a", request_id=1)
    assert disagreement(request, Accepted(sig_hash=CALL.sig_hash)) is None
    assert disagreement(request, Accepted()) is None
    assert disagreement(request, Refused("no")) is None
    message = disagreement(request, Accepted(sig_hash=bytes(32)))
    assert message is not None
    assert CALL.sig_hash.hex() in message


@given(
    index=UINT32,
    block=UINT32,
    threshold=st.integers(0, 100),
    message=st.binary(),
    quorums=st.binary(max_size=9),
    answer=st.binary(),
)
def test_params_raw_decodes_to_what_went_in(
    index: int, block: int, threshold: int, message: bytes, quorums: bytes, answer: bytes
) -> None:
    task = make_task(
        task_index=index, created_block=block, quorum_threshold=threshold, message=message, quorum_numbers=quorums
    )
    types = ["(uint32,uint32,bytes,bytes)", "(uint32,bytes)"]
    params_raw = WIZARD.call(task, answer).params_raw
    assert decode(types, params_raw) == ((block, threshold, message, quorums), (index, answer))


@given(index=st.integers(0, 2**256 - 1), answer=st.binary(), ids=st.tuples(*[st.integers(1, 2**63)] * 2))
@settings(max_examples=50)
def test_same_answer_has_the_same_digest_on_each_attempt(index: int, answer: bytes, ids: tuple[int, int]) -> None:
    first, second = (proxy_request(make_task(task_index=index), answer, method="m", request_id=i) for i in ids)
    assert first.digest == second.digest
    assert first.body == proxy_request(make_task(task_index=index), answer, method="m", request_id=ids[0]).body
    sent = json.loads(first.body)
    assert sent["params"][0]["resp_message"] == "0x" + answer.hex()
    del sent["id"]
    assert first.digest == hashlib.sha256(json.dumps(sent, separators=(",", ":")).encode()).digest()


@given(
    name=st.text(min_size=1) | st.text(st.characters(max_codepoint=0x80), min_size=1),
    index=st.integers(0, 2**256 - 1) | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64]),
    style=st.sampled_from(["array", "object"]),
)
@example(name="".join(map(chr, range(0x80))), index=0, style="array")
def test_requests_are_the_bytes_that_the_json_module_writes(name: str, index: int, style: ParamsStyle) -> None:
    """Digests in older ledgers were made by it."""
    requests = (
        proxy_request(make_task(task_index=index), RESPONSE, method=name, request_id=1, params_style=style),
        operator_request(CALL, avs_name=name, method=name, request_id=1, params_style=style),
    )
    for request in requests:
        sent = json.loads(request.body)
        assert (sent["params"][0] if style == "array" else sent["params"])["method"] == name
        assert request.body == json.dumps(sent, separators=(",", ":")).encode()
        del sent["id"]
        assert request.digest == hashlib.sha256(json.dumps(sent, separators=(",", ":")).encode()).digest()


@given(first=st.binary(max_size=8), other=st.binary(max_size=8))
def test_another_answer_has_another_digest(first: bytes, other: bytes) -> None:
    digests = [proxy_request(make_task(), answer, method="m", request_id=1).digest for answer in (first, other)]
    assert (digests[0] == digests[1]) == (first == other)


@pytest.mark.parametrize("style", ["array", "object"])
def test_names_from_the_configuration_cannot_break_out_of_the_json(style: ParamsStyle) -> None:
    name = '"}],"x":"\ud800\n\u2028é'
    request = operator_request(CALL, avs_name=name, method=name, request_id=1, params_style=style)
    params = json.loads(request.body)["params"]
    assert (params[0] if style == "array" else params)["avs_name"] == name


def test_fields_beyond_the_abi_are_set_aside_with_words() -> None:
    with pytest.raises(Quarantine, match="uint32"):
        WIZARD.call(make_task(task_index=2**32), b"")


def test_probe_asks_for_no_method_of_the_api() -> None:
    sent = json.loads(probe_request(3).body)
    assert not sent["method"].startswith("operator_")
    assert sent["id"] == "3"
