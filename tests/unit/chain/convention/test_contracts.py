"""Public contracts that differ from the presets: their files in tests/conventions, and what must come of their logs.

Every expected value is put together here with eth-abi, from the contract's source and not from the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_abi.packed import encode_packed
from eth_account.messages import defunct_hash_message
from eth_utils.crypto import keccak

from watcher.chain.convention.convention import Convention, convention
from watcher.chain.rpc.replies import Log
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Task

FOLDER = Path(__file__).parents[3] / "conventions"
MANAGER, CHAIN_ID, WINDOW = b"\x11" * 20, 17000, 100
ADDRESS, AVS = "0x" + "aa" * 20, "0x" + "33" * 20
NON_SIGNERS = (
    "(uint32[],(uint256,uint256)[],(uint256,uint256)[],(uint256[2],uint256[2]),(uint256,uint256),"
    "uint32[],uint32[],uint32[][])"
)
ROOT, OTHER = b"\x0a" * 32, b"\x0b" * 32
OP_TASK = (7, 480, 6, 430, b"\x00\x01", 60, b"\x00", 55)
OP_TYPE = "(uint32,uint32,uint32,uint32,bytes,uint32,bytes,uint32)"
OP_HASH = keccak(encode([OP_TYPE], [OP_TASK]))
CHECKPOINT = (480, 10, 20, 666_666_667, b"\x00")
ATTESTATION = (ADDRESS, "ipfs://x", [ROOT], [b"\1\2\3\4"], 5, 480, b"\x00", 6667)


def word(number: int) -> bytes:
    return number.to_bytes(32)


def hashed(types: Sequence[str], values: Sequence[Any]) -> bytes:
    return keccak(encode(types, values))


@dataclass(frozen=True)
class Case:
    """A log of a contract, the answer to it, and what must come of both."""

    topics: Sequence[bytes]
    types: Sequence[str]
    values: Sequence[Any]
    task: dict[str, Any]
    answer: bytes
    function: str
    params: tuple[Sequence[str], Sequence[Any]]
    sig_hash: bytes
    reference_block: int
    thresholds: tuple[int, ...]
    views: dict[str, bytes] = field(default_factory=dict)


CASES = {
    "finalizer": Case(
        [word(7)], [OP_TYPE], [OP_TASK],
        {"task_index": 7, "created_block": 480, "deadline_block": 580, "quorum_numbers": b"\x00", "task_hash": OP_HASH},
        ROOT,
        f"respondToOpTask({OP_TYPE},(uint32,bytes32,bytes32),{NON_SIGNERS})",
        ([OP_TYPE, "(uint32,bytes32,bytes32)"], [OP_TASK, (7, OP_HASH, ROOT)]),
        hashed(["(uint32,bytes32,bytes32)"], [(7, OP_HASH, ROOT)]), 430, (55,),
        {"all_task_hashes": keccak(text="allTaskHashes(uint8,uint32)")[:4] + word(0) + word(7)},
    ),
    "checkpoint": Case(
        [word(3)], ["(uint32,uint64,uint64,uint32,bytes)"], [CHECKPOINT],
        {"task_index": 3, "deadline_block": 580, "quorum_threshold": 67},
        encode(["(bytes32,bytes32)"], [(ROOT, OTHER)]),
        f"respondToCheckpointTask((uint32,uint64,uint64,uint32,bytes),(uint32,bytes32,bytes32),{NON_SIGNERS})",
        (["(uint32,uint64,uint64,uint32,bytes)", "(uint32,bytes32,bytes32)"], [CHECKPOINT, (3, ROOT, OTHER)]),
        hashed(
            ["bytes32", "bytes32"],
            [bytes.fromhex("5f7351501d0bdb4d74dd1448340c3ecab5ad96dfe2a69df6d6e199bd0dcc5239"),
             hashed(["uint32", "bytes32", "bytes32"], [3, ROOT, OTHER])],
        ),
        480, (67,),
    ),
    "batch": Case(
        [ROOT], ["address", "uint32", "string", "uint256"], [ADDRESS, 480, "https://x", 9],
        {"task_index": int.from_bytes(keccak(ROOT + b"\xaa" * 20)), "message": b"https://x", "deadline_block": 580},
        ROOT,
        f"respondToTaskV2(bytes32,address,{NON_SIGNERS})",
        (["bytes32", "address"], [ROOT, ADDRESS]),
        keccak(ROOT + b"\xaa" * 20), 480, (67,),
        {"all_task_responses": keccak(text="batchesState(bytes32)")[:4] + keccak(ROOT + b"\xaa" * 20)},
    ),
    "mailbox": Case(
        [bytes(12) + b"\xaa" * 20, ROOT, bytes(12) + b"\x33" * 20],
        ["uint32", "uint32", "address", "uint96", "uint256", "bytes"], [1, 2, ADDRESS, 3, 1_800_000_000, b"do it"],
        {"task_index": int.from_bytes(ROOT), "message": b"do it", "deadline_s": 1_800_000_000, "created_block": 500},
        b"done",
        "submitResult(bytes32,bytes,bytes)",
        (["bytes32", "bytes"], [ROOT, b"done"]),
        hashed(["bytes32", "bytes"], [ROOT, b"done"]), 500, (),
    ),
    "hello": Case(
        [word(4)], ["(string,uint32)"], [("Ada", 480)],
        {"task_index": 4, "message": b"Ada", "deadline_block": 580},
        b"Ada",
        "respondToTask((string,uint32),uint32,bytes)",
        (["(string,uint32)", "uint32"], [("Ada", 480), 4]),
        bytes(defunct_hash_message(keccak(b"Hello, Ada"))), 480, (),
    ),
    "attestation": Case(
        [word(2)], ["(address,string,bytes32[],bytes4[],uint32,uint32,bytes,uint32)"], [ATTESTATION],
        {"task_index": 2, "quorum_threshold": 67},
        encode(["(bool,bytes32,bytes32,uint32,uint32)"], [(True, ROOT, OTHER, 1, 0)]),
        "respondToAttestationTask((address,string,bytes32[],bytes4[],uint32,uint32,bytes,uint32),"
        f"(uint32,bool,bytes32,bytes32,uint32,uint32),{NON_SIGNERS})",
        (["(address,string,bytes32[],bytes4[],uint32,uint32,bytes,uint32)",
          "(uint32,bool,bytes32,bytes32,uint32,uint32)"], [ATTESTATION, (2, True, ROOT, OTHER, 1, 0)]),
        hashed(["uint32", "bool", "bytes32", "bytes32", "uint32", "uint32"], [2, True, ROOT, OTHER, 1, 0]), 480, (67,),
    ),
    "truth": Case(
        [ROOT], ["string", "bytes", "uint8", "uint32", "uint32", "uint64"], ["c", b"p", 1, 2, 66, 1_800_000_000],
        {"task_index": int.from_bytes(ROOT), "deadline_s": 1_800_000_000},
        encode(["(bytes32,bytes)"], [(OTHER, b"true")]),
        f"respondWithSignature(bytes32,bytes32,bytes,{NON_SIGNERS})",
        (["bytes32", "bytes32", "bytes"], [ROOT, OTHER, b"true"]), OTHER, 500, (66,),
    ),
}  # fmt: skip


def task_of(convention: Convention, case: Case) -> Task:
    data = encode(case.types, case.values)
    log = Log(MANAGER, (convention.created_topic, *case.topics), data, 500, b"\x01" * 32, b"\x02" * 32, 3)
    return convention.decode_task(log, CHAIN_ID, WINDOW)


def own(folder: Path, text: str) -> Convention:
    file = folder / "own.toml"
    file.write_text(text)
    return convention("custom", file)


@pytest.mark.parametrize("name", CASES)
def test_public_contract_is_answered_as_its_source_says(name: str) -> None:
    case, example = CASES[name], convention("custom", FOLDER / f"{name}.toml")
    task = task_of(example, case)
    assert {key: getattr(task, key) for key in case.task} == case.task
    assert example.matches_log(task)
    call = example.call(task, case.answer)
    assert call.params_raw == encode(*case.params)
    assert call.sig_hash == case.sig_hash
    assert (call.reference_block, call.quorum_thresholds) == (case.reference_block, case.thresholds)
    assert example.dry_run(task, case.answer)[:4] == keccak(text=case.function)[:4]
    for view, data in case.views.items():
        assert getattr(example, view).call(task.task_index) == data


def test_every_file_beside_the_presets_is_tried() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(CASES)


def test_batches_of_one_root_and_two_senders_are_two_tasks() -> None:
    example, case = convention("custom", FOLDER / "batch.toml"), CASES["batch"]
    ours = task_of(example, case)
    other = "0x" + "bb" * 20
    data = encode(case.types, [other, *case.values[1:]])
    log = Log(MANAGER, (example.created_topic, ROOT), data, 501, b"\x01" * 32, b"\x02" * 32, 3)
    theirs = example.decode_task(log, CHAIN_ID, None)
    assert ours.task_index != theirs.task_index
    response_log = Log(MANAGER, (example.responded_topic or b"", ROOT), encode(["address"], [other]), 9, ROOT, ROOT, 1)
    assert example.decode_response(response_log).task_index == theirs.task_index
    assert example.index_topic(ours.task_index) is None


def test_signature_has_its_place_among_the_arguments() -> None:
    example, case = convention("custom", FOLDER / "mailbox.toml"), CASES["mailbox"]
    data = example.dry_run(task_of(example, case), case.answer)
    assert data[4:] == encode(["bytes32", "bytes", "bytes"], [ROOT, b"", b"done"])


ASKED = """
[task]
event = "Asked(uint32 indexed id, (address to, string contents, uint256 scale) mail, string indexed cluster)"
index = "id"
"""
CALL = """
[call]
method = "respond"
types = ["uint32", "bytes"]
values = ["id", "$answer"]
"""

PLAIN = '[signed]\ntypes = ["bytes"]\nvalues = ["$answer"]\n'


def asked(convention: Convention, index: int = 1, scale: int = 0, cluster: bytes = b"main") -> Task:
    topics = (convention.created_topic, word(index), keccak(cluster))
    data = encode(["(address,string,uint256)"], [("0x" + "bB" * 20, "Hello, Bob!", scale)])
    return convention.decode_task(Log(MANAGER, topics, data, 500, ROOT, OTHER, 3), 1, WINDOW)


MAIL = """
[signed]
packed = true
types = ["bytes", "bytes32", "bytes32"]
values = [
  "0x1901",
  {types = ["bytes32", "bytes32", "bytes32", "uint256", "address"], values = [
    {types = ["string"], packed = true, values = [
      {text = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"}]},
    {types = ["string"], packed = true, values = [{text = "Ether Mail"}]},
    {types = ["string"], packed = true, values = [{text = "1"}]},
    "$chain_id",
    "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"]},
  {types = ["bytes32", "bytes32", "bytes32", "bytes32"], keccak = true, values = [
    {types = ["string"], packed = true, values = [
      {text = "Mail(Person from,Person to,string contents)Person(string name,address wallet)"}]},
    {types = ["bytes32", "bytes32", "address"], values = [
      {types = ["string"], packed = true, values = [{text = "Person(string name,address wallet)"}]},
      {types = ["string"], packed = true, values = [{text = "Cow"}]},
      "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"]},
    {types = ["bytes32", "bytes32", "address"], values = [
      {types = ["string"], packed = true, values = [{text = "Person(string name,address wallet)"}]},
      {types = ["string"], packed = true, values = [{text = "Bob"}]},
      "mail.to"]},
    {types = ["string"], packed = true, values = ["mail.contents"]}]},
]
"""


def test_typed_data_has_the_digest_that_its_standard_publishes(tmp_path: Path) -> None:
    convention = own(tmp_path, ASKED + CALL + MAIL)
    digest = "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
    assert convention.call(asked(convention), b"").sig_hash.hex() == digest


SIGNED = {
    "bytes within bytes": (
        'types = ["bytes"]\nvalues = [{types = ["uint32", "bytes"], values = ["$index", "$answer"]}]',
        hashed(["bytes"], [encode(["uint32", "bytes"], [1, b"yes"])])),
    "a hash as a number": (
        'types = ["uint256"]\nvalues = [{types = ["bytes"], values = ["$answer"], packed = true}]',
        hashed(["uint256"], [int.from_bytes(keccak(b"yes"))])),
    "a hash in a struct": (
        'types = ["(uint32,bytes32)"]\nvalues = [["$index", {types = ["bytes"], values = ["$answer"]}]]',
        hashed(["uint32", "bytes32"], [1, hashed(["bytes"], [b"yes"])])),
    "a hash of a hash, signed as it is": (
        ('raw = true\ntypes = ["bytes32"]\n'
         'values = [{types = ["bytes32"], values = [{types = ["bytes"], values = ["$answer"], packed = true}]}]'),
        keccak(keccak(b"yes"))),
    "the hash of a text that the log holds": (
        'types = ["bytes32"]\nvalues = ["cluster"]', keccak(keccak(b"main"))),
    "the reference block": (
        'types = ["uint32"]\nvalues = ["$reference_block"]', keccak(word(500))),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNED)
def test_digest_is_the_hash_of_nested_encodings(name: str, tmp_path: Path) -> None:
    signed, digest = SIGNED[name]
    convention = own(tmp_path, ASKED + CALL + "[signed]\n" + signed)
    assert convention.call(asked(convention), b"yes").sig_hash == digest


INDICES = {
    "two fields": ('["id", "mail.to"]', hashed(["uint32", "address"], [1, "0x" + "bb" * 20])),
    "a field that the log has the hash of": ('["cluster", "id"]', hashed(["bytes32", "uint32"], [keccak(b"main"), 1])),
    "packed, with a constant": (
        '{types = ["bytes4", "uint32"], values = ["0x01020304", "id"], packed = true, keccak = true}',
        keccak(encode_packed(["bytes4", "uint32"], [b"\1\2\3\4", 1]))),
    "a hash of a hash": (
        '{types = ["bytes32"], values = [{types = ["uint32"], values = ["id"]}]}', keccak(keccak(word(1)))),
}  # fmt: skip


@pytest.mark.parametrize("name", INDICES)
def test_index_is_the_hash_of_its_fields(name: str, tmp_path: Path) -> None:
    index, number = INDICES[name]
    text = ASKED.replace('index = "id"', f"index = {index}") + CALL + PLAIN
    convention = own(tmp_path, text)
    task = asked(convention)
    assert task.task_index == int.from_bytes(number)
    assert convention.matches_log(task)
    assert not convention.matches_log(replace(asked(convention, index=2), log=task.log))


SCALED = [(10_000, 6667, 67), (10_000, 6600, 66), (10_000, 1, 1), (10_000, 10_000, 100), (10**9, 666_666_667, 67),
          (100, 66, 66), (2**32, 2**31, 50), (3, 2, 67), (100, 0, 0)]  # fmt: skip


@pytest.mark.parametrize(("scale", "threshold", "percent"), SCALED)
def test_threshold_is_sent_in_percent_and_never_too_low(
    scale: int, threshold: int, percent: int, tmp_path: Path
) -> None:
    text = ASKED + f'quorum_numbers = [0, 1]\nquorum_threshold = "mail.scale"\nthreshold_scale = {scale}\n' + CALL
    convention = own(tmp_path, text + PLAIN)
    assert convention.call(asked(convention, scale=threshold), b"").quorum_thresholds == (percent, percent)


@pytest.mark.parametrize(("scale", "threshold"), [(100, 101), (100, 6667), (10_000, 10_001), (10**9, 2**32)])
def test_threshold_above_all_of_the_stake_is_not_sent(scale: int, threshold: int, tmp_path: Path) -> None:
    text = ASKED + f'quorum_numbers = [0]\nquorum_threshold = "mail.scale"\nthreshold_scale = {scale}\n' + CALL
    convention = own(tmp_path, text + PLAIN)
    task = asked(convention, scale=threshold)
    assert task.quorum_threshold > 100
    with pytest.raises(Quarantine, match=r"more than there is; correct .*quorum_threshold, or .*threshold_scale"):
        convention.call(task, b"")


WINDOWS = {
    "a window, its last block included": ("window_blocks = 30\ninclusive = true", 30, (530, None)),
    "a window, its last block too late": ("window_blocks = 30\ninclusive = false", 30, (529, None)),
    "a block, too late itself": ('block = "mail.scale"\ninclusive = false', None, (899, None)),
    "a second, too late itself": ('timestamp = "mail.scale"\ninclusive = false', None, (None, 899)),
}  # fmt: skip


@pytest.mark.parametrize("name", WINDOWS)
def test_last_block_is_admissible_when_the_window_includes_it(name: str, tmp_path: Path) -> None:
    rule, expected, until = WINDOWS[name]
    convention = own(tmp_path, ASKED + "[deadline]\n" + rule + CALL + PLAIN)
    assert (convention.window_blocks is None) == (expected is None)
    topics = (convention.created_topic, word(1), ROOT)
    data = encode(["(address,string,uint256)"], [("0x" + "bb" * 20, "", 900)])
    task = convention.decode_task(Log(MANAGER, topics, data, 500, ROOT, OTHER, 3), 1, convention.window_blocks)
    assert (task.deadline_block, task.deadline_s) == until


@pytest.mark.parametrize(("inclusive", "expected", "blocks"), [("true", 30, 30), ("false", 30, 29), ("false", 0, 0)])
def test_window_of_a_view_ends_before_its_last_block(
    inclusive: str, expected: int, blocks: int, tmp_path: Path
) -> None:
    rule = f'[deadline]\nwindow_view = "window()"\ninclusive = {inclusive}\n'
    convention = own(tmp_path, ASKED + rule + CALL + PLAIN)
    assert convention.response_window is not None
    assert convention.response_window.read(word(expected)) == blocks


def test_no_deadline_stays_none_when_the_first_block_too_late_is_named(tmp_path: Path) -> None:
    rule = '[deadline]\nblock = "mail.scale"\ninclusive = false\n'
    convention = own(tmp_path, ASKED + rule + CALL + PLAIN)
    topics = (convention.created_topic, word(1), ROOT)
    data = encode(["(address,string,uint256)"], [("0x" + "bb" * 20, "", 0)])
    assert convention.decode_task(Log(MANAGER, topics, data, 500, ROOT, OTHER, 3), 1, None).deadline_block is None


@pytest.mark.parametrize(
    ("more", "function", "arguments"),
    [
        ("", f"respond(uint32,bytes,{NON_SIGNERS})", None),
        ('signature_type = ""', "respond(uint32,bytes)", (["uint32", "bytes"], [1, b"yes"])),
        ('signature_type = "bytes"\nsignature_at = 0', "respond(bytes,uint32,bytes)",
         (["bytes", "uint32", "bytes"], [b"", 1, b"yes"])),
        ('signature_type = "(uint256[2],(bytes4,bool)[])[]"\nsignature_at = 2',
         "respond(uint32,bytes,(uint256[2],(bytes4,bool)[])[])",
         (["uint32", "bytes", "(uint256[2],(bytes4,bool)[])[]"], [1, b"yes", []])),
        ('signature_type = "(uint256[2],address,string,bytes4)"',
         "respond(uint32,bytes,(uint256[2],address,string,bytes4))",
         (["uint32", "bytes", "(uint256[2],address,string,bytes4)"],
          [1, b"yes", ([0, 0], "0x" + "00" * 20, "", bytes(4))])),
    ],
)  # fmt: skip
def test_dry_run_has_an_empty_signature_of_its_type(
    more: str, function: str, arguments: tuple[list[str], list[Any]] | None, tmp_path: Path
) -> None:
    text = ASKED + CALL + more + "\n" + PLAIN
    convention = own(tmp_path, text)
    data = convention.dry_run(asked(convention), b"yes")
    assert data[:4] == keccak(text=function)[:4]
    assert arguments is None or data[4:] == encode(*arguments)
    assert convention.call(asked(convention), b"yes").params_raw == encode(["uint32", "bytes"], [1, b"yes"])


SLIPS = {
    "a nested key with a slip": ("{types = ['bytes'], valuess = []}", "valuess: is not known; there are types, values"),
    "nested values that are missing": ("{types = ['bytes']}", "signed.values: each must be a path"),
    "too few nested values": ("{types = ['bytes', 'bool'], values = [true]}", "2 types and 1 values"),
    "no nested type": ("{types = ['octets'], values = ['0x']}", "'octets' is no ABI type"),
    "nested types that are none": ("{types = 5, values = []}", "types must be a list of 1 to 16 types"),
    "a number for a type": ("{types = [5], values = [5]}", "types must be a list of types in quotes"),
    "packed structs": ("{types = ['(bool,bool)'], values = [[true, true]], packed = true}", "packed takes neither"),
    "packed or not": ("{types = ['bool'], values = [true], packed = 'yes'}", "packed and keccak must be"),
    "a hash that is no hash": ("{types = ['bool'], values = [true], keccak = false}", "keccak = false cannot stand"),
    "an unknown table": ("{a = 1}", "signed.values: each must be a path"),
    "a text that is none": ("{text = 5}", "text must be text in quotes"),
    "a text for a word": ("{text = 'x'}", "a text cannot stand for bytes32"),
    "a text that looks like a path to nobody": ("'Hello, '", "'Hello, ' is no path; write a constant text as"),
    "a text and more": ("{text = 'x', packed = true}", "signed.values: each must be a path"),
    "a nested path that is not there": ("{types = ['bytes'], values = ['mail.x']}", "has no 'mail.x'"),
    "a nested type that differs": ("{types = ['bytes'], values = ['$index']}", "$index cannot stand for bytes"),
    "tables in tables": ("{types=['bytes'],values=[" * 40 + "'0x'" + "]}" * 40, "signed.values: each must be a path"),
}  # fmt: skip


def refused(folder: Path, text: str) -> str:
    with pytest.raises(FixConfiguration) as wrong:
        own(folder, text)
    assert str(wrong.value).isprintable()
    assert len(str(wrong.value)) < 1000
    return str(wrong.value)


@pytest.mark.parametrize("name", SLIPS)
def test_error_in_a_nested_encoding_is_named(name: str, tmp_path: Path) -> None:
    value, expected = SLIPS[name]
    assert expected in refused(tmp_path, ASKED + CALL + f'[signed]\ntypes = ["bytes32"]\nvalues = [{value}]')


KEYS = {
    "an index of one path": ("[task]", 'index = ["id"]', "task.index: must be text in quotes (a path), a list of two"),
    "an index of the answer": (
        "[task]", 'index = {types = ["bytes"], values = ["$answer"]}', "$answer cannot stand in an index"),
    "an index of what is known later": (
        "[task]", 'index = {types = ["uint256"], values = ["$chain_id"]}', "$chain_id cannot stand in an index"),
    "an index that is not hashed": (
        "[task]", 'index = {types = ["uint32"], values = ["id"], keccak = false}', "leave keccak out"),
    "an index that is counted": (
        "[task]", 'index = ["id", "mail.to"]\ncount_view = "count()"', "does not count up: leave count_view"),
    "an index of a number": ("[task]", "index = 7", "task.index: must be text in quotes"),
    "a reference block of text": (
        "[task]", 'index = "id"\nreference_block = "mail.contents"', "is string, and must be a uint"),
    "a reference block that is not there": ("[task]", 'index = "id"\nreference_block = "x"', "has no 'x'"),
    "a scale of nothing": ("[task]", 'index = "id"\nthreshold_scale = 0', "task.threshold_scale: must be 1 or more"),
    "a scale far off": ("[task]", f'index = "id"\nthreshold_scale = {2**63 - 1}\nquorum_threshold = -1', "task.quorum"),
    "a threshold above its scale": (
        "[task]", 'index = "id"\nthreshold_scale = 10000\nquorum_threshold = 10001', "a number from 0 to 10000"),
    "a window that is maybe inclusive": ("[deadline]", 'inclusive = "no"', "deadline.inclusive: must be true or false"),
    "a signature of no type": ("[call]", 'signature_type = "sig"', "call.signature_type: 'sig' is no ABI type"),
    "a signature behind the last": ("[call]", "signature_at = 3", "signature_at: must be 0 to 2"),
    "a place for no signature": ("[call]", 'signature_type = ""\nsignature_at = 0', "there must be a signature_type"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_error_in_a_key_is_reported_with_the_key(name: str, tmp_path: Path) -> None:
    table, line, expected = KEYS[name]
    text = ASKED + "[deadline]\n" + CALL + PLAIN
    if table == "[task]":
        text = text.replace('index = "id"\n', "", 1)
    assert expected in refused(tmp_path, text.replace(f"{table}\n", f"{table}\n{line}\n", 1))
