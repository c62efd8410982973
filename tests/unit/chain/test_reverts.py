"""Revert data -> meaning: every refusal a contract is known to word, and nothing that anybody may send breaks it."""

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from watcher.chain.convention.signature import errors_in_abi
from watcher.chain.reverts import Meaning, decoded, refusal
from watcher.chain.rpc.errors import WORDS_LIMIT, rpc_error
from watcher.chain.rpc.replies import Reverted

CHECKER = "BLSSignatureChecker.checkSignatures: "

KNOWN = [
    ("Supplied task does not match the one recorded in the contract", Meaning.PARK),
    ("supplied task does not match the one recorded in the contract", Meaning.PARK),
    ("ChainbaseServiceManager: supplied task does not match the one recorded in the contract", Meaning.PARK),
    ("Aggregator has already responded to the task", Meaning.WAIT),
    ("ChainbaseServiceManager: aggregator has already responded to the task", Meaning.WAIT),
    ("Aggregator has responded too late", Meaning.PARK),
    ("Aggregator has responded to the task too late", Meaning.PARK),
    ("Aggregator must be the caller", Meaning.CALLER),
    ("ChainbaseServiceManager: aggregator must be the caller", Meaning.CALLER),
    ("Signatories do not own at least threshold percentage of a quorum", Meaning.ADMISSIBLE),
    (CHECKER + "empty quorum input", Meaning.PARK),
    (CHECKER + "invalid reference block", Meaning.NEXT),
    (CHECKER + "StakeRegistry updates must be within withdrawalDelayBlocks window", Meaning.WAIT),
    (CHECKER + "quorumApk hash in storage does not match provided quorum apk", Meaning.ADMISSIBLE),
    (CHECKER + "nonSignerPubkeys not sorted", Meaning.ADMISSIBLE),
    (CHECKER + "input quorum length mismatch", Meaning.ADMISSIBLE),
    (CHECKER + "input nonsigner length mismatch", Meaning.ADMISSIBLE),
    (CHECKER + "signature is invalid", Meaning.ADMISSIBLE),
    (CHECKER + "pairing precompile call failed", Meaning.ADMISSIBLE),
    ("StakeRegistry.quorumExists: quorum does not exist", Meaning.PARK),
    ("Pausable: paused", Meaning.WAIT),
    ("Task generator must be the caller", Meaning.UNCLEAR),
    ("something new under the sun", Meaning.UNCLEAR),
]
ERRORS = [
    ("InputEmptyQuorumNumbers", Meaning.PARK),
    ("InputArrayLengthMismatch", Meaning.ADMISSIBLE),
    ("InputNonSignerLengthMismatch", Meaning.ADMISSIBLE),
    ("InvalidReferenceBlocknumber", Meaning.NEXT),
    ("NonSignerPubkeysNotSorted", Meaning.ADMISSIBLE),
    ("StaleStakesForbidden", Meaning.WAIT),
    ("InvalidQuorumApkHash", Meaning.ADMISSIBLE),
    ("InvalidBLSPairingKey", Meaning.ADMISSIBLE),
    ("InvalidBLSSignature", Meaning.ADMISSIBLE),
    ("Unheard", Meaning.UNCLEAR),
]
ERROR = keccak(b"Error(string)")[:4]
PANIC = keccak(b"Panic(uint256)")[:4]


@pytest.mark.parametrize(("text", "meaning"), KNOWN)
def test_text_means_the_same_as_data_and_as_message(text: str, meaning: Meaning) -> None:
    as_data = refusal(Reverted("execution reverted", ERROR + encode(["string"], [text])))
    assert (as_data.meaning, as_data.reason) == (meaning, text)
    for preamble in (
        "execution reverted: ",
        "Error: VM Exception while processing transaction: reverted with reason string '",
        "VM Exception while processing transaction: revert ",
    ):
        in_words = refusal(Reverted(preamble + text, None))
        assert (in_words.meaning, in_words.reason) == (meaning, text), preamble


@pytest.mark.parametrize(("name", "meaning"), ERRORS)
def test_a_custom_error_is_known_by_its_selector(name: str, meaning: Meaning) -> None:
    data = keccak(f"{name}()".encode())[:4]
    reading = refusal(Reverted("execution reverted", data))
    assert reading.meaning is meaning
    assert reading.reason == (f"{name}()" if meaning is not Meaning.UNCLEAR else f"a custom error 0x{data.hex()}")


def test_the_selectors_are_those_of_the_chain() -> None:
    # Written down from outside: InvalidBLSSignature() and Error(string), Panic(uint256).
    assert (ERROR.hex(), PANIC.hex()) == ("08c379a0", "4e487b71")


@pytest.mark.parametrize(("code", "message"), [(0x11, "overflow"), (0x32, "outside its array"), (0x99, "unknown kind")])
def test_panic_is_named_and_holds_nothing_back(code: int, message: str) -> None:
    reading = refusal(Reverted("execution reverted", PANIC + code.to_bytes(32)))
    assert reading.meaning is Meaning.UNCLEAR
    assert reading.reason.startswith(f"Panic(0x{code:02x})")
    assert message in reading.reason


@pytest.mark.parametrize(
    "reverted",
    [
        Reverted("execution reverted", None),
        Reverted("execution reverted", b""),
        Reverted("", None),
        Reverted("internal error", None),
        Reverted("VM execution error.", b"\x01"),
        Reverted("execution reverted", ERROR + b"\xff" * 40),
        Reverted("execution reverted", PANIC + b"\xff" * 32),
    ],
)
def test_revert_without_reason_holds_nothing_back(reverted: Reverted) -> None:
    reading = refusal(reverted)
    assert reading.meaning is Meaning.UNCLEAR
    assert reading.reason


OWN = errors_in_abi(
    [
        {"type": "error", "name": "TooLate", "inputs": [{"name": "until", "type": "uint64"}, {"type": "bytes4"}]},
        {"type": "error", "name": "Bad", "inputs": [{"name": "why", "type": "string"}, {"type": "uint8[]"}]},
        {"type": "error", "name": "Unreadable", "inputs": [{"name": "x", "type": "no type"}]},
        {"type": "error", "name": 7, "inputs": []},
        {"type": "event", "name": "Made", "inputs": []},
        "nonsense",
    ]
)


def test_custom_error_of_the_contract_is_named_and_unclear() -> None:
    late = keccak(b"TooLate(uint64,bytes4)")[:4]
    reading = refusal(Reverted("execution reverted", late + encode(["uint64", "bytes4"], [9, b"abcd"])), OWN)
    assert (reading.meaning, reading.reason, reading.kind) == (
        Meaning.UNCLEAR,
        "TooLate(until=9, 0x61626364)",
        "TooLate",
    )
    bad = keccak(b"Bad(string,uint8[])")[:4]
    text = "already responded to the task\n\x1b"
    reading = refusal(Reverted("", bad + encode(["string", "uint8[]"], [text, [1, 2]])), OWN)
    assert reading.reason == "Bad(why=already responded to the task\\n\\x1b, (1, 2))"
    assert reading.meaning is Meaning.UNCLEAR
    reading = refusal(Reverted("", bad + b"\xff" * 40), OWN)
    assert reading.reason == "Bad, with values that cannot be decoded"
    assert len(OWN) == 2


@given(tail=st.binary(max_size=300), selector=st.sampled_from(sorted(OWN)))
def test_custom_error_survives_any_data(tail: bytes, selector: bytes) -> None:
    reading = refusal(Reverted("", selector + tail), OWN)
    assert len(reading.reason) <= WORDS_LIMIT
    assert reading.reason.isprintable()


@given(message=st.text(max_size=300), data=st.none() | st.binary(max_size=300))
def test_refusal_survives_any_data(message: str, data: bytes | None) -> None:
    reading = refusal(Reverted(message, data))
    assert len(reading.reason) <= WORDS_LIMIT


@given(st.binary(max_size=400))
def test_a_texts_bytes_come_out_printable(raw: bytes) -> None:
    text = decoded(ERROR + encode(["bytes"], [raw]))
    assert text.isprintable()
    assert text.isascii()


def test_the_data_of_a_revert_is_found_where_nethermind_puts_it() -> None:
    data = ERROR + encode(["string"], ["Aggregator must be the caller"])
    for raw in ("0x" + data.hex(), "Reverted 0x" + data.hex()):
        assert rpc_error({"code": -32015, "message": "VM execution error.", "data": raw}).data == data
