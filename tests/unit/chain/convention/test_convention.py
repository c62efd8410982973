"""Conventions as data: the presets against published vectors, and the shapes of contracts seen in the wild."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher.chain.convention.convention import Convention, convention
from watcher.chain.convention.signature import parse_signature
from watcher.chain.rpc.replies import Log
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Task

MANAGER = b"\x11" * 20
CHAIN_ID = 17000
U32 = st.integers(0, 2**32 - 1)
NON_SIGNERS = (
    "(uint32[],(uint256,uint256)[],(uint256,uint256)[],(uint256[2],uint256[2]),(uint256,uint256),"
    "uint32[],uint32[],uint32[][])"
)


def log_of(convention: Convention, topics: Sequence[bytes], types: Sequence[str], values: Sequence[Any]) -> Log:
    data = encode(types, values)
    return Log(MANAGER, (convention.created_topic, *topics), data, 500, b"\x01" * 32, b"\x02" * 32, 3)


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


# Topics and selectors as public contracts and published tools have them.
PRESETS = {
    "wizard": ("ba37832bdd21742b", "9b96c981c7c70a9f", "79b08c8d"),
    "wizard-bridge": ("ba37832bdd21742b", "9b96c981c7c70a9f", "ea4b909e"),
    "incredible-squaring": ("1695b8d06ec800b4", "349c1ee60e4e8972", None),
    "chainbase": ("b456431ed13b80d9", "d0e833257cf2514f", None),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_topics_of_the_public_contract(name: str) -> None:
    preset = convention(name)
    created, responded, selector = PRESETS[name]
    assert preset.created_topic.hex().startswith(created)
    assert (preset.responded_topic or b"").hex().startswith(responded)
    if selector is not None:
        task = preset.decode_task(
            log_of(preset, [word(1)], ["(uint32,uint32,bytes,bytes)"], [(5, 66, b"m", b"\x00")]), CHAIN_ID, 30
        )
        assert preset.dry_run(task, b"a")[:4].hex() == selector


def test_the_published_vector_of_the_operator_api() -> None:
    preset = convention("wizard")
    values = (3003011, 66, bytes.fromhex("1234"), b"\x00")
    task = preset.decode_task(log_of(preset, [word(100)], ["(uint32,uint32,bytes,bytes)"], [values]), CHAIN_ID, 30)
    call = preset.call(task, bytes.fromhex("abcd"))
    assert task.task_hash.hex() == "a4ab598f7807886a600c9c1116d8266ebfe68efdf642e926df14d5d6d9512a0d"
    assert call.sig_hash.hex() == "6ed3cb0202b0d5b8d03b1d993798d0c8947eb42694b6bbf129a1cee62ccac6d8"
    assert len(call.params_raw) == 448
    assert call.params_raw[:64] == word(0x40) + word(0x140)
    assert (call.method, call.reference_block) == ("respondToTask", 3003011)
    assert (call.quorum_numbers, call.quorum_thresholds) == ((0,), (66,))


@given(index=U32, created=U32, number=st.integers(0, 2**256 - 1), answer=st.integers(0, 2**256 - 1))
def test_incredible_squaring_signs_a_static_tuple_without_offset(
    index: int, created: int, number: int, answer: int
) -> None:
    preset = convention("incredible-squaring")
    kind, values = "(uint256,uint32,bytes,uint32)", (number, created, b"\x00\x01", 67)
    task = preset.decode_task(log_of(preset, [word(index)], [kind], [values]), CHAIN_ID, 100)
    assert task.message == word(number)
    assert task.task_hash == keccak(encode([kind], [values]))
    assert task.deadline_block == created + 100
    call = preset.call(task, word(answer))
    assert call.sig_hash == keccak(word(index) + word(answer))
    assert call.params_raw == encode([kind, "(uint32,uint256)"], [values, (index, answer)])
    assert (call.quorum_numbers, call.quorum_thresholds) == ((0, 1), (67, 67))
    assert preset.fields(task)["task"]["numberToBeSquared"] == number


@given(index=U32, details=st.text(max_size=60), answer=st.text(max_size=60))
def test_chainbase_is_text_in_and_text_out(index: int, details: str, answer: str) -> None:
    preset = convention("chainbase")
    kind, values = "(string,uint32,bytes,uint32)", (details, 7, b"\x00", 66)
    task = preset.decode_task(log_of(preset, [word(index)], [kind], [values]), CHAIN_ID, None)
    assert (task.message, task.deadline_block, task.deadline_s) == (details.encode(), None, None)
    call = preset.call(task, answer.encode())
    assert call.sig_hash == keccak(encode(["(uint32,string)"], [(index, answer)]))


@pytest.mark.parametrize(
    ("name", "answer"), [("incredible-squaring", b"\x01"), ("incredible-squaring", b""), ("chainbase", b"\xff\xfe")]
)
def test_an_answer_of_another_type_is_refused_before_it_is_sent(name: str, answer: bytes) -> None:
    with pytest.raises(Quarantine, match="answer must be"):
        convention(name).answer.value_of(answer)


@dataclass(frozen=True)
class Wild:
    """A contract found in public repositories: its convention file, one of its logs, and what must come of it."""

    text: str
    topics: Sequence[bytes]
    types: Sequence[str]
    values: Sequence[Any]
    task: Mapping[str, Any]
    answer: bytes = b"answer"
    params: tuple[Sequence[str], Sequence[Any]] | None = None
    signed: bytes | None = None
    window: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


PLAIN_CALL = """
[call]
method = "respondToTask"
types = ["uint256", "bytes"]
values = ["$index", "$answer"]
[signed]
types = ["uint256", "bytes"]
values = ["$index", "$answer"]
"""

WILD = {
    "the index is not indexed, and is a uint256": Wild(
        """
        [task]
        event = "NewTaskCreated(uint256 taskId, (string name, string url, string kind, uint32 taskCreatedBlock) task)"
        index = "taskId"
        created_block = "task.taskCreatedBlock"
        message = "task.url"
        """ + PLAIN_CALL,
        [], ["uint256", "(string,string,string,uint32)"], [2**200, ("n", "https://x", "k", 450)],
        {"task_index": 2**200, "created_block": 450, "message": b"https://x", "deadline_block": None},
        params=(["uint256", "bytes"], [2**200, b"answer"]),
        fields={"taskId": 2**200, "task": {"name": "n", "url": "https://x", "kind": "k", "taskCreatedBlock": 450}},
    ),
    "the payload is not in the event": Wild(
        """
        [task]
        event = "NewTaskCreated(uint32 indexed taskId, bytes32 taskHash)"
        index = "taskId"
        message = "taskHash"
        quorum_numbers = [0, 1]
        quorum_threshold = 60
        """ + PLAIN_CALL,
        [word(9)], ["bytes32"], [b"\x07" * 32],
        {"task_index": 9, "created_block": 500, "message": b"\x07" * 32, "quorum_numbers": b"\x00\x01",
         "quorum_threshold": 60},
    ),
    "one of two kinds of task": Wild(
        """
        answer = "bytes32"
        [task]
        event = "NewOpTaskCreated(uint32 indexed taskIndex, (uint32 taskNum, uint32 taskCreatedBlock, bytes quorums) t)"
        index = "taskIndex"
        created_block = "t.taskCreatedBlock"
        quorum_numbers = "t.quorums"
        [deadline]
        window_blocks = 100
        [call]
        method = "respondToOpTask"
        types = ["(uint32,uint32,bytes)", "(uint32,bytes32)"]
        values = ["t", ["$index", "$answer"]]
        [signed]
        types = ["(uint32,bytes32)"]
        values = [["$index", "$answer"]]
        """,
        [word(3)], ["(uint32,uint32,bytes)"], [(3, 480, b"\x00")],
        {"deadline_block": 580, "created_block": 480}, answer=b"\x05" * 32, window=100,
        params=(["(uint32,uint32,bytes)", "(uint32,bytes32)"], [(3, 480, b"\x00"), (3, b"\x05" * 32)]),
        signed=word(3) + b"\x05" * 32,
    ),
    "the deadline is a time": Wild(
        """
        [task]
        event = "NewTaskCreated(uint32 indexed id, (bytes32 p, bytes32 b, uint32 created, uint256 deadline, bool d) t)"
        index = "id"
        created_block = "t.created"
        [deadline]
        timestamp = "t.deadline"
        """ + PLAIN_CALL,
        [word(1)], ["(bytes32,bytes32,uint32,uint256,bool)"], [(b"p" * 32, b"b" * 32, 499, 1_700_000_060, False)],
        {"deadline_s": 1_700_000_060, "deadline_block": None},
    ),
    "the deadline is a block in the task": Wild(
        """
        [task]
        event = "NewTaskCreated(uint32 indexed id, (address a, address b, uint8 c, uint32 deadline, uint32 created) t)"
        index = "id"
        created_block = "t.created"
        [deadline]
        block = "t.deadline"
        """ + PLAIN_CALL,
        [word(1)], ["(address,address,uint8,uint32,uint32)"], [("0x" + "aa" * 20, "0x" + "bb" * 20, 7, 900, 499)],
        {"deadline_block": 900}, fields={"id": 1},
    ),
    "no deadline, no quorums": Wild(
        """
        [task]
        event = "NewTaskCreated(uint32 indexed taskIndex, (string name, uint32 taskCreatedBlock) task)"
        index = "taskIndex"
        created_block = "task.taskCreatedBlock"
        message = "task.name"
        """ + PLAIN_CALL,
        [word(4)], ["(string,uint32)"], [("hello", 44)],
        {"message": b"hello", "deadline_block": None, "deadline_s": None, "quorum_numbers": b""},
    ),
    "an answer of several values": Wild(
        """
        answer = "(address,bytes32)"
        [task]
        event = "NewTaskCreated(uint32 indexed i, (uint32 jobId, uint32 taskCreatedBlock, bytes quorumNumbers) task)"
        index = "i"
        created_block = "task.taskCreatedBlock"
        quorum_numbers = "task.quorumNumbers"
        [response]
        event = "TaskResponded((uint32 referenceTaskIndex, address operator, bytes32 txHash) r)"
        index = "r.referenceTaskIndex"
        answer = ["r.operator", "r.txHash"]
        [call]
        method = "respondToTask"
        types = ["(uint32,uint32,bytes)", "(uint32,address,bytes32)"]
        values = ["task", ["$index", "$answer.0", "$answer.1"]]
        [signed]
        types = ["(uint32,address,bytes32)"]
        values = [["$index", "$answer.0", "$answer.1"]]
        """,
        [word(6)], ["(uint32,uint32,bytes)"], [(12, 490, b"\x00")],
        {"created_block": 490},
        answer=encode(["(address,bytes32)"], [("0x" + "cc" * 20, b"\x09" * 32)]),
        params=(["(uint32,uint32,bytes)", "(uint32,address,bytes32)"],
                [(12, 490, b"\x00"), (6, "0x" + "cc" * 20, b"\x09" * 32)]),
        signed=encode(["(uint32,address,bytes32)"], [(6, "0x" + "cc" * 20, b"\x09" * 32)]),
    ),
    "tasks named by a hash": Wild(
        """
        answer = "bytes32"
        [task]
        event = "TaskCreated(bytes32 indexed taskId, bytes payload)"
        index = "taskId"
        message = "payload"
        quorum_numbers = [0]
        [call]
        method = "verifyRequest"
        types = ["bytes32", "bytes", "uint32"]
        values = ["taskId", "$quorum_numbers", "$created_block"]
        [signed]
        raw = true
        types = ["bytes32"]
        values = ["taskId"]
        """,
        [b"\x0c" * 32], ["bytes"], [b"do it"],
        {"task_index": int.from_bytes(b"\x0c" * 32, "big"), "created_block": 500, "message": b"do it"},
        answer=b"\x01" * 32,
        params=(["bytes32", "bytes", "uint32"], [b"\x0c" * 32, b"\x00", 500]),
    ),
    "Mach: confirmAlert": Wild(
        """
        answer = "bytes32"
        [task]
        event = "AlertRequested(uint256 indexed number, bytes32 messageHash)"
        index = "number"
        quorum_numbers = [0, 1]
        quorum_threshold = 66
        [call]
        method = "confirmAlert"
        types = ["(bytes32,bytes,bytes,uint32,uint256)"]
        values = [["messageHash", "$quorum_numbers", "$quorum_thresholds", "$created_block", "$chain_id"]]
        [signed]
        types = ["bytes32", "uint32", "uint256"]
        values = ["messageHash", "$created_block", "$chain_id"]
        """,
        [word(2)], ["bytes32"], [b"\x33" * 32], {"task_index": 2}, answer=b"\x00" * 32,
        params=(["(bytes32,bytes,bytes,uint32,uint256)"], [(b"\x33" * 32, b"\x00\x01", b"BB", 500, CHAIN_ID)]),
        signed=b"\x33" * 32 + word(500) + word(CHAIN_ID),
    ),
}  # fmt: skip


def custom(folder: Path, text: str) -> Convention:
    file = folder / "mine.toml"
    file.write_text(text)
    return convention("custom", file)


def of_wild(folder: Path, wild: Wild) -> tuple[Convention, Task]:
    convention = custom(folder, wild.text)
    return convention, convention.decode_task(
        log_of(convention, wild.topics, wild.types, wild.values), CHAIN_ID, wild.window
    )


@pytest.mark.parametrize("name", WILD)
def test_public_contract_is_described_and_its_log_decoded(name: str, tmp_path: Path) -> None:
    wild = WILD[name]
    convention, task = of_wild(tmp_path, wild)
    assert {key: getattr(task, key) for key in wild.task} == dict(wild.task)
    fields = convention.fields(task)
    assert {key: fields[key] for key in wild.fields} == dict(wild.fields)
    call = convention.call(task, wild.answer)
    if wild.params is not None:
        assert call.params_raw == encode(*wild.params)
    if wild.signed is not None:
        assert call.sig_hash == keccak(wild.signed)
    selector = f"{call.method}({','.join([*(wild.params or (['uint256', 'bytes'], ()))[0], NON_SIGNERS])})"
    data = convention.dry_run(task, wild.answer)
    assert data[:4] == keccak(text=selector)[:4]


TIMED = (
    """
[task]
event = "NewTaskCreated(uint32 indexed i, (uint256 created, uint256 deadline) t)"
index = "i"
created_block = "t.created"
[deadline]
{} = "{}"
"""
    + PLAIN_CALL
)


@pytest.mark.parametrize("deadline", [0, 2**62, 2**63 - 1, 2**64 - 1, 2**256 - 1])
@pytest.mark.parametrize("rule", ["block", "timestamp"])
def test_deadline_is_none_when_zero_or_out_of_range(rule: str, deadline: int, tmp_path: Path) -> None:
    convention = custom(tmp_path, TIMED.format(rule, "t.deadline"))
    task = convention.decode_task(log_of(convention, [word(1)], ["(uint256,uint256)"], [(9, deadline)]), CHAIN_ID, None)
    assert (task.deadline_block, task.deadline_s) == (None, None)


@given(created=st.integers(0, 2**256 - 1), deadline=st.integers(0, 2**256 - 1))
@example(2**63 - 1, 100)
@example(9, 2**256 - 1)
@fuzzed
def test_deadline_fits_a_column_whatever_the_window(created: int, deadline: int) -> None:
    with TemporaryDirectory() as folder:
        convention = custom(Path(folder), TIMED.format("window_view", "window()"))
    assert convention.response_window is not None
    window = convention.response_window.read(word(deadline))
    assert window == min(deadline, 2**32 - 1)
    with suppress(Quarantine):
        task = convention.decode_task(
            log_of(convention, [word(1)], ["(uint256,uint256)"], [(created, 0)]), CHAIN_ID, window
        )
        assert task.deadline_block == created + window < 2**63


def test_text_index_is_hashed_and_has_no_topic(tmp_path: Path) -> None:
    event = '[task]\nevent = "TaskCreated(bytes8 indexed taskId, bytes32 taskHash)"\nindex = "taskId"\n' + PLAIN_CALL
    convention = custom(tmp_path, event)
    task = convention.decode_task(
        log_of(convention, [b"\x07" * 8 + bytes(24)], ["bytes32"], [b"\x01" * 32]), CHAIN_ID, None
    )
    assert task.task_index == int.from_bytes(keccak(b"\x07" * 8 + bytes(24)), "big")
    assert convention.index_topic(task.task_index) is None
    assert convention.fields(task) == {"taskId": b"\x07" * 8, "taskHash": b"\x01" * 32}


def test_indexed_struct_is_its_hash(tmp_path: Path) -> None:
    text = '[task]\nevent = "Made((uint32 a, uint32 b) indexed t, uint32 n)"\nindex = "t"\n' + PLAIN_CALL
    convention, topic = custom(tmp_path, text), keccak(b"t")
    task = convention.decode_task(log_of(convention, [topic], ["uint32"], [5]), CHAIN_ID, None)
    assert convention.index_topic(task.task_index) == topic
    assert convention.fields(task) == {"t": topic, "n": 5}
    for path in ('index = "t.a"', 'index = "n"\nmessage = "t"', 'index = "n"\ncreated_block = "t.b"'):
        with pytest.raises(FixConfiguration):
            custom(tmp_path, text.replace('index = "t"', path))


def test_constants_in_a_call_are_encoded_as_written(tmp_path: Path) -> None:
    types = ["uint256", "bytes", "bool", "bool", "bytes4", "address", "bytes", "(uint8,bytes)"]
    values = '["$index", "$answer", true, false, "0x01020304", "0x%s", "0x", [7, "0xAbcD"]]' % ("aB" * 20)
    text = GOOD.replace('["uint256", "bytes"]', json.dumps(types), 1).replace('["$index", "$answer"]', values, 1)
    convention = custom(tmp_path, text)
    task = convention.decode_task(log_of(convention, [word(4)], ["(string,uint32)"], [("hello", 44)]), CHAIN_ID, None)
    constant = (True, False, b"\1\2\3\4", "0x" + "ab" * 20, b"", (7, b"\xab\xcd"))
    assert convention.call(task, b"yes").params_raw == encode(types, [4, b"yes", *constant])


def test_a_packed_digest_is_signed(tmp_path: Path) -> None:
    types = ["uint32", "int16", "bytes", "bool", "bytes4", "string"]
    values = ["$index", -2, "$answer", True, "0x01020304", "task.name"]
    signed = f"[signed]\npacked = true\ntypes = {json.dumps(types)}\nvalues = {json.dumps(values)}\n"
    convention = custom(tmp_path, GOOD[: GOOD.index("[signed]")] + signed)
    task = convention.decode_task(log_of(convention, [word(4)], ["(string,uint32)"], [("hello", 44)]), CHAIN_ID, None)
    # As Solidity packs: each in its own width, texts and bytes without their lengths.
    packed = bytes.fromhex("00000004fffe") + b"yes" + b"\x01" + bytes.fromhex("01020304") + b"hello"
    assert convention.call(task, b"yes").sig_hash == keccak(packed)
    for kind in ("uint8[]", "(uint32,bool)"):
        with pytest.raises(FixConfiguration, match="packed takes neither structs nor arrays"):
            custom(tmp_path, (GOOD[: GOOD.index("[signed]")] + signed).replace('"uint32"', f'"{kind}"', 1))


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("bytes4", '"0x010203"', "0x010203, 3 bytes, cannot stand for bytes4"),
        ("address", '"0x00"', "0x00, 1 bytes, cannot stand for address"),
        ("bytes", '"0x0"', "not hex with two digits"),
        ("bytes", '"0xzz"', "not hex with two digits"),
        ("uint256", '"0x00"', "cannot stand for uint256"),
        ("bytes[]", '"0x00"', "cannot stand for bytes[]"),
        ("uint8", "true", "true cannot stand for uint8"),
        ("bool", "1", "1 cannot stand for bool"),
        ("bytes", "1.5", "each must be a path"),
    ],
)
def test_constant_of_another_type_is_refused(kind: str, value: str, message: str, tmp_path: Path) -> None:
    text = GOOD.replace('["uint256", "bytes"]', f'["{kind}"]', 1).replace('["$index", "$answer"]', f"[{value}]", 1)
    with pytest.raises(FixConfiguration) as wrong:
        custom(tmp_path, text)
    assert message in str(wrong.value)


def test_a_raw_digest_is_signed_as_it_is(tmp_path: Path) -> None:
    convention, task = of_wild(tmp_path, WILD["tasks named by a hash"])
    assert convention.call(task, b"\x01" * 32).sig_hash == b"\x0c" * 32


def test_two_conventions_ignore_each_others_tasks(tmp_path: Path) -> None:
    op, task = of_wild(tmp_path, WILD["one of two kinds of task"])
    rd = custom(tmp_path, WILD["one of two kinds of task"].text.replace("NewOpTask", "NewRdTask"))
    assert op.created_topic != rd.created_topic
    with pytest.raises(Quarantine):
        rd.decode_task(log_of(op, [word(3)], ["(uint32,uint32,bytes)"], [(3, 480, b"\x00")]), CHAIN_ID, None)
    assert task.task_index == 3


def test_several_values_of_an_answer_are_read_from_its_event(tmp_path: Path) -> None:
    wild = WILD["an answer of several values"]
    convention, _ = of_wild(tmp_path, wild)
    data = encode(["(uint32,address,bytes32)"], [(6, "0x" + "cc" * 20, b"\x09" * 32)])
    seen = convention.decode_response(
        Log(MANAGER, (convention.responded_topic or b"",), data, 501, b"\x01" * 32, b"\x02" * 32, 0)
    )
    assert (seen.task_index, seen.message) == (6, wild.answer)


def test_event_is_accepted_as_compiler_json(tmp_path: Path) -> None:
    entry = {
        "type": "event",
        "name": "NewTaskCreated",
        "anonymous": False,
        "inputs": [
            {"name": "taskIndex", "type": "uint32", "indexed": True, "internalType": "uint32"},
            {
                "name": "task",
                "type": "tuple",
                "indexed": False,
                "components": [{"name": "name", "type": "string"}, {"name": "taskCreatedBlock", "type": "uint32"}],
            },
        ],
    }
    plain = custom(tmp_path, WILD["no deadline, no quorums"].text)
    event = next(line for line in WILD["no deadline, no quorums"].text.splitlines() if "event =" in line)
    inline = WILD["no deadline, no quorums"].text.replace(event, f"event = '{json.dumps(entry)}'")
    assert custom(tmp_path, inline).created_topic == plain.created_topic
    # With an ABI the function is compared too, so that the file says one that the ABI has.
    taken = {"type": "function", "name": "respondToTask", "inputs": [{"type": "uint256"}, {"type": "bytes"}]}
    other = {"type": "event", "name": "Other", "inputs": []}
    (tmp_path / "out.json").write_text(json.dumps({"abi": [entry, other, taken]}))
    inline = inline.replace("[call]", '[call]\nsignature_type = ""')
    by_name = 'abi = "out.json"\n' + inline.replace(f"'{json.dumps(entry)}'", '"NewTaskCreated"')
    assert custom(tmp_path, by_name).created_topic == plain.created_topic
    with pytest.raises(FixConfiguration, match="it has NewTaskCreated, Other"):
        custom(tmp_path, by_name.replace('"NewTaskCreated"', '"NewTask"'))


GOOD = WILD["no deadline, no quorums"].text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('index = "taskIndex"', "", "task.index: is required"),
        ('index = "taskIndex"', 'index = "taskIdx"', "it has taskIndex, task, task.name"),
        ('"task.name"', '"task.nam"', "it has taskIndex, task, task.name"),
        ("(string name,", "(Name name,", "is no ABI type"),
        ("(string name,", "(Status name,", "'Status' is no ABI type; write an enum as uint8"),
        ("(string name,", "(IERC20 name,", "a contract as address"),
        ("(string name,", "(IMach.Alert[] name,", "'IMach.Alert[]' is no ABI type; write an enum as uint8"),
        ("(string name,", "(struct Task name,", "a struct as (type,type)"),
        ("(string name,", "(enum Status name,", "'enum Status' is no ABI type"),
        ("(string name,", "(a.b.c name,", "'a.b.c' is no ABI type"),
        ("(string name,", "(a. name,", "'a.name' is no ABI type"),
        ("indexed taskIndex, (", "indexed taskIndex (", "cannot be read"),
        ('created_block = "task.taskCreatedBlock"', 'created_block = "task.name"', "must be a uint"),
        ('types = ["uint256", "bytes"]', 'types = ["uint256"]', "1 types and 2 values"),
        ('"$answer"]', '"$anser"]', "there is no $anser"),
        ('types = ["uint256", "bytes"]', 'types = ["uint256", "string"]', "cannot stand for string"),
        ('method = "respondToTask"', 'method = "respond()"', "call.method"),
        ('method = "respondToTask"', 'metod = "respondToTask"', "call.metod: is not known; did you mean method?"),
        ("[call]", "[deadline]\nblock = 'task.taskCreatedBlock'\nwindow_blocks = 5\n[call]", "deadline: give one of"),
        ("[task]", 'answer = " "\n[task]', "is not one type"),
        ("[task]", 'answer = "uint256,bytes"\n[task]', "is not one type"),
        ("[task]", "[task", "not TOML"),
        ('message = "task.name"', 'hash = ["task"]', "belong together"),
        ("[call]", '[response]\nevent = "R(uint32 i, string s)"\nindex = "i"\nanswer = "s"\n[call]', "answer says"),
    ],
)
def test_error_in_a_convention_file_names_its_place(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(FixConfiguration) as wrong:
        custom(tmp_path, GOOD.replace(old, new, 1))
    assert message in str(wrong.value)
    assert "mine.toml" in str(wrong.value)
    assert "\n" not in str(wrong.value)


@fuzzed
@given(text=st.text(max_size=200) | st.text(alphabet="abcuint256() ,[]tuple_indexed", max_size=120))
@example(text="A(()")
@example(text="A(()[])")
def test_any_text_as_a_signature_is_read_or_refused(text: str) -> None:
    with suppress(FixConfiguration):
        parse_signature(text)


@fuzzed
@given(data=st.binary(max_size=600), topics=st.lists(st.binary(min_size=32, max_size=32), max_size=3))
@pytest.mark.parametrize("name", ["incredible-squaring", "chainbase"])
def test_hostile_log_of_a_preset_is_quarantined(name: str, data: bytes, topics: list[bytes]) -> None:
    preset = convention(name)
    for first in preset.topics0:
        log = Log(MANAGER, (first, *topics), data, 1, b"\x01" * 32, b"\x02" * 32, 0)
        for read in (lambda log=log: preset.decode_task(log, 1, 5), lambda log=log: preset.decode_response(log)):
            with suppress(Quarantine):
                read()
