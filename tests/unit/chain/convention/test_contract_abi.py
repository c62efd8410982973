"""A convention file with the contract's ABI beside it: everything written is compared, and each slip has its key."""

import json
from pathlib import Path
from typing import Any

import pytest

from watcher.chain.convention.convention import Convention, convention
from watcher.chain.convention.schema import PRESETS
from watcher.chain.convention.signature import Parameter, parse_signature
from watcher.devnet.contract import artifact
from watcher.devnet.conventions import CONVENTIONS
from watcher.errors import FixConfiguration

FILES = Path(__file__).parents[4] / "watcher" / "chain" / "convention" / "presets"


def entry(kind: str, signature: str, *outputs: str, mutability: str = "view") -> dict[str, Any]:
    """One entry of ABI JSON, as a compiler writes it."""
    parsed = parse_signature(signature)
    made = {"type": kind, "name": parsed.name, "inputs": [_parameter(parameter, kind) for parameter in parsed.inputs]}
    if kind == "function":
        made |= {"stateMutability": mutability}
        made["outputs"] = [_parameter(parse_signature(f"x({parameter})").inputs[0], kind) for parameter in outputs]
    return made


def _parameter(parameter: Parameter, kind: str) -> dict[str, Any]:
    made: dict[str, Any] = {"name": parameter.name, "type": parameter.type}
    if parameter.components:
        made["type"] = "tuple" + parameter.type[parameter.type.rindex(")") + 1 :]
        made["components"] = [_parameter(inner, "") for inner in parameter.components]
    return made | ({"indexed": parameter.indexed} if kind == "event" else {})


CREATED = "Created(uint32 indexed id, (uint32 block, bytes data) task, address who)"
RESPONDED = "Responded(uint32 indexed id, bytes32 answer)"
FUNCTION = "respond(uint32,bytes32,bytes)"
ABI = [
    entry("event", CREATED),
    entry("event", RESPONDED),
    entry("function", FUNCTION, mutability="nonpayable"),
    entry("function", "hashes(uint8,uint32)", "bytes32"),
    entry("function", "count()", "uint32"),
    entry("function", "window()", "uint64"),
    entry("function", "states(uint32)", "(uint32,bool)", "uint256"),
    entry("function", "loose(uint32)", "string", "uint8"),
    entry("function", "fixed(uint32)", "uint8[2]", "address"),
    entry("function", "sender()", "address"),
]
TEXT = f"""
abi = "abi.json"
answer = "bytes32"
[task]
event = "{CREATED}"
index = "id"
created_block = "task.block"
hash = ["task"]
hash_view = {{view = "hashes(uint8,uint32)", arguments = [0, "$index"]}}
count_view = "count()"
[deadline]
window_view = "window()"
[response]
event = "{RESPONDED}"
index = "id"
answer = "answer"
hash_view = {{view = "states(uint32)", word = 1}}
[call]
method = "respond"
sender_view = "sender()"
signature_type = "bytes"
types = ["uint32", "bytes32"]
values = ["$index", "$answer"]
[signed]
types = ["bytes32"]
values = ["$answer"]
"""


def own(folder: Path, text: str, *abis: list[Any]) -> Convention:
    (folder / "own.toml").write_text(text)
    for number, abi in enumerate(abis or (ABI,)):
        (folder / f"abi{number or ''}.json").write_text(json.dumps(abi))
    return convention("custom", folder / "own.toml")


@pytest.mark.parametrize("name", PRESETS)
def test_preset_agrees_with_the_compilers_abi(name: Any, tmp_path: Path) -> None:
    text = (FILES / f"{name}.toml").read_text()
    own(tmp_path, 'abi = "abi.json"\n' + text, artifact(CONVENTIONS[name].artifact)["abi"])


def test_file_is_accepted_when_it_agrees_with_the_abi(tmp_path: Path) -> None:
    assert own(tmp_path, TEXT).function == FUNCTION


def test_default_sender_view_is_not_compared(tmp_path: Path) -> None:
    own(tmp_path, TEXT.replace('sender_view = "sender()"\n', ""))


def test_contract_of_two_addresses_has_two_abis(tmp_path: Path) -> None:
    text = TEXT.replace('"abi.json"', '["abi.json", "abi1.json"]')
    assert own(tmp_path, text, ABI[:1] + ABI[3:], ABI[1:3]).function == FUNCTION
    with pytest.raises(FixConfiguration, match=r"response\.event: the ABI has no Responded"):
        own(tmp_path, text, ABI[:1] + ABI[3:], ABI[2:3])


SLIPS = {
    "a type of the event": ("(uint32 block, bytes data) task", "(uint64 block, bytes data) task",
                            "the ABI has no Created(uint32 indexed,(uint64,bytes),address); it has"),
    "an event that is not indexed": ("Created(uint32 indexed id", "Created(uint32 id", "it has Created("),
    "an event of another name": ('"Responded(', '"Answered(', "response.event: the ABI has no Answered"),
    "a view that is not there": ('"count()"', '"counts()"', "task.count_view: the ABI has no counts(); it has count"),
    "a view of other parameters": (
        '{view = "hashes(uint8,uint32)", arguments = [0, "$index"]}', '"hashes(uint32)"',
        "task.hash_view: the ABI has no hashes(uint32); it has hashes(uint8,uint32)"),
    "a hash that is a number": (
        '{view = "hashes(uint8,uint32)", arguments = [0, "$index"]}', '{view = "states(uint32)", word = 0}',
        "task.hash_view: word 0 of states is uint32, and must be bytes32"),
    "a window that is an address": ('"window()"', '"sender()"', "deadline.window_view: word 0 of sender is address"),
    "a sender that is a number": ('"sender()"', '"count()"', "call.sender_view: word 0 of count is uint32"),
    "one of several words": (
        '{view = "states(uint32)", word = 1}', '"states(uint32)"', "response.hash_view: states returns 3 words"),
    "a word too many": ("word = 1}", "word = 3}", "states returns 3 words, from 0, and has no word 3"),
    "the place of a text": (
        '{view = "states(uint32)", word = 1}', '{view = "loose(uint32)", word = 0}', "word 0 of loose is an offset"),
    "a function that changes the state": (
        '"states(uint32)", word = 1', '"respond(uint32)", word = 1', "hash_view: the ABI has no respond(uint32)"),
    "another function": ('method = "respond"', 'method = "answer"', "the ABI has no answer(uint32,bytes32,bytes)"),
    "another signature": (
        'signature_type = "bytes"\n', "", "call: the ABI has no respond(uint32,bytes32,(uint32[]"),
    "a signature elsewhere": (
        'signature_type = "bytes"', 'signature_type = "bytes"\nsignature_at = 1', "no respond(uint32,bytes,bytes32)"),
    "an ABI that is not there": ('"abi.json"', '["abi.json", "none.json"]', "none.json: does not exist"),
    "no ABI at all": ('"abi.json"', "[]", "abi: must be a path, or a list of up to four paths"),
}  # fmt: skip


@pytest.mark.parametrize("name", SLIPS)
def test_difference_from_the_abi_names_its_key(name: str, tmp_path: Path) -> None:
    old, new, expected = SLIPS[name]
    assert old in TEXT
    with pytest.raises(FixConfiguration) as wrong:
        own(tmp_path, TEXT.replace(old, new, 1))
    assert expected in str(wrong.value)
    assert str(wrong.value).isprintable()
    assert "own.toml" in str(wrong.value) or "none.json" in str(wrong.value)


def test_every_difference_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(FixConfiguration) as wrong:
        own(tmp_path, TEXT, ABI[:1])
    keys = ("task.hash_view", "task.count_view", "deadline.window_view", "response.event", "response.hash_view", "call")
    assert all(f"{key}: the ABI has no" in str(wrong.value) for key in keys)


@pytest.mark.parametrize("word", [0, 1])
def test_word_of_an_array_of_fixed_length_is_counted(word: int, tmp_path: Path) -> None:
    own(tmp_path, TEXT.replace('"states(uint32)", word = 1', f'"fixed(uint32)", word = {word}'))


def test_view_that_writes_is_refused(tmp_path: Path) -> None:
    writes = entry("function", "count()", "uint32", mutability="nonpayable")
    changed = [writes if item["name"] == "count" else item for item in ABI]
    with pytest.raises(FixConfiguration, match=r"task\.count_view: count is nonpayable in the ABI, and no view"):
        own(tmp_path, TEXT, changed)


@pytest.mark.parametrize("outputs", [None, 5, [5], [{"type": "octets"}], [{"type": "tuple"}], []])
def test_malformed_outputs_are_a_configuration_error(outputs: Any, tmp_path: Path) -> None:
    changed = [item | ({"outputs": outputs} if item["name"] == "count" else {}) for item in ABI]
    with pytest.raises(FixConfiguration, match=r"task\.count_view: "):
        own(tmp_path, TEXT, changed)
