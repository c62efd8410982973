"""web3 reads the logs of every kind of event as our decoder does, and a difference is seen."""

import sys
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from watcher.chain.convention.event import Event, Values
from watcher.chain.convention.signature import parse_signature
from watcher.chain.convention.web3_reader import Web3Reader
from watcher.task import Sighting, Task

ADDRESS = "0x" + "aB" * 20
# Signature; topics beside the first; types and values of the data.
EVENTS: dict[str, tuple[str, list[bytes], list[str], list[Any]]] = {
    "wizard": (
        "NewTaskCreated(uint32 indexed taskIndex, (uint32 block, uint32 threshold, bytes message, bytes quorums) task)",
        [(7).to_bytes(32)],
        ["(uint32,uint32,bytes,bytes)"],
        [(5, 66, b"hello", b"\0\1")],
    ),
    "no names, indexed last": (
        "Made(bytes32, string, uint8 indexed)",
        [(200).to_bytes(32)],
        ["bytes32", "string"],
        [b"\5" * 32, "0xAB is text"],
    ),
    "indexed text is its hash": ("Made(string indexed, int256)", [keccak(b"text")], ["int256"], [-(2**255)]),
    "arrays of structs": (
        "Made((address who, bool yes, uint8[2] pair)[] voters, bytes4 kind)",
        [],
        ["(address,bool,uint8[2])[]", "bytes4"],
        [[(ADDRESS, True, [1, 2]), (ADDRESS, False, [0, 255])], b"kind"],
    ),
    "a name of Python": ("Made(uint256 class, bytes from)", [], ["uint256", "bytes"], [2**256 - 1, b""]),
}


def made(name: str) -> tuple[Event, Task]:
    text, topics, types, values = EVENTS[name]
    event = Event(parse_signature(text))
    topics = [event.topic, *topics]
    _, canonical = event.decode(topics, encode(types, values))
    seen_at = Sighting(9, b"\1" * 32, b"\2" * 32, 3)
    log = event.pack(topics, canonical)
    return event, Task(1, b"\7" * 20, 7, b"\3" * 32, 5, b"hello", b"\0", 66, 100, seen_at, log)


@pytest.mark.parametrize("name", EVENTS)
def test_web3_agrees_with_our_decoder(name: str) -> None:
    event, task = made(name)
    assert Web3Reader(event).agrees(task) is True


@pytest.mark.parametrize("name", EVENTS)
def test_a_difference_is_seen_when_our_decoder_errs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    event, task = made(name)
    reader, unpack = Web3Reader(event), event.unpack

    def wrong(packed: bytes) -> tuple[Values, bytes]:
        values, canonical = unpack(packed)
        return (*values[:-1], "something else"), canonical

    monkeypatch.setattr(event, "unpack", wrong)
    assert reader.agrees(task) is False


@pytest.mark.parametrize("log", [b"", b"\0" * 32, b"\xff" * 200])
def test_no_agreement_is_claimed_when_the_log_is_damaged(log: bytes) -> None:
    event, task = made("wizard")
    assert Web3Reader(event).agrees(replace(task, log=log)) is None


def test_no_agreement_is_claimed_when_web3_reads_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    event, task = made("wizard")
    reader = Web3Reader(event)
    monkeypatch.setattr(reader, "_decoder", None)
    assert reader.agrees(task) is None


def test_the_recursion_limit_stays_when_web3_is_imported() -> None:
    before = sys.getrecursionlimit()
    Web3Reader(made("wizard")[0])
    assert sys.getrecursionlimit() == before
