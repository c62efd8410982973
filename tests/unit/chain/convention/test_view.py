"""Views of other forms, and logs of a contract that several services share: read as their file describes them."""

from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import Convention, convention
from watcher.chain.convention.view import View
from watcher.chain.rpc.replies import Log
from watcher.errors import FixConfiguration, RetryElsewhere

MANAGER, OTHER = b"\x11" * 20, b"\x22" * 20
TASK = """
[task]
event = "TaskCreated(address indexed creator, bytes32 indexed taskHash, address indexed avs, uint96 fee, bytes payload)"
index = "taskHash"
message = "payload"
"""
RESPONSE = """
[response]
event = "TaskVerified(address indexed aggregator, bytes32 indexed taskHash, address indexed avs, bytes result)"
index = "taskHash"
answer = "result"
"""
CALL = """
[call]
method = "submitResult"
types = ["bytes32", "bytes"]
values = ["taskHash", "$answer"]
[signed]
types = ["bytes32", "bytes"]
values = ["taskHash", "$answer"]
"""


def word(number: int) -> bytes:
    return number.to_bytes(32)


def own(folder: Path, text: str, *, answers: bool = False) -> Convention:
    file = folder / "own.toml"
    file.write_text(text)
    return convention("custom", file, answers=answers)


def refused(folder: Path, text: str, *, answers: bool = False) -> str:
    with pytest.raises(FixConfiguration) as wrong:
        own(folder, text, answers=answers)
    assert str(wrong.value).isprintable()
    return str(wrong.value)


def response_view(folder: Path, view: str) -> View[bytes | None]:
    reader = own(folder, TASK + RESPONSE + f"hash_view = {view}\n").all_task_responses
    assert reader is not None
    return reader


ANSWERED = {
    "any word": ('"answers(bytes32)"', word(5), word(0)),
    "equal to a status": ('{view = "getTaskStatus(bytes32)", equals = 2}', word(2), word(1)),
    "equal to one of two": ('{view = "getTaskStatus(bytes32)", equals = [2, 4]}', word(4), word(3)),
    "equal to true": ('{view = "isDone(bytes32)", equals = true}', word(1), word(0)),
    "equal to an address": (
        '{view = "by(bytes32)", equals = "0x%s"}' % ("ab" * 20), b"\0" * 12 + b"\xab" * 20, b"\0" * 12 + b"\xac" * 20),
    "equal to zero": ('{view = "openTask(bytes32)", equals = 0}', word(0), word(7)),
    "equal to minus one": ('{view = "sign(bytes32)", equals = -1}', b"\xff" * 32, word(1)),
    "anything but created": ('{view = "getTaskStatus(bytes32)", not_equals = [0, 1]}', word(2), word(1)),
    "the second of three words": (
        '{view = "batchesState(bytes32)", word = 1}', word(9) + word(1) + word(8), word(9) + word(0) + word(8)),
    "the third of three, a status": (
        '{view = "tasks(bytes32)", word = 2, equals = 3}', word(3) + word(3) + word(3), word(3) + word(3) + word(2)),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERED)
def test_view_shows_an_answer_when_its_word_matches(name: str, tmp_path: Path) -> None:
    text, yes, no = ANSWERED[name]
    view = response_view(tmp_path, text)
    assert view.read(yes) is not None
    assert view.read(no) is None


CALLS: dict[str, tuple[str, list[str], list[Any]]] = {
    "the index alone": ('"answers(bytes32)"', ["bytes32"], [word(77)]),
    "a constant before it": ('{view = "a(uint8,uint32)", arguments = [1, "$index"]}', ["uint8", "uint32"], [1, 77]),
    "constants around it": (
        '{view = "a(address,uint256,bool,bytes4,int8)", arguments = ["0x%s", "$index", true, "0x01020304", -3]}'
        % ("aB" * 20),
        ["address", "uint256", "bool", "bytes4", "int8"], ["0x" + "ab" * 20, 77, True, b"\1\2\3\4", -3]),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_view_is_called_with_its_arguments(name: str, tmp_path: Path) -> None:
    text, types, values = CALLS[name]
    view = response_view(tmp_path, text)
    assert view.call(77) == keccak(text=view.signature)[:4] + encode(types, values)


def test_count_and_window_take_constants(tmp_path: Path) -> None:
    text = TASK + 'count_view = {view = "counts(uint8)", arguments = [1], word = 1}\n'
    text += '[deadline]\nwindow_view = {view = "windows(uint8)", arguments = [2]}\n'
    convention = own(tmp_path, text)
    assert convention.latest_task_num is not None
    assert convention.response_window is not None
    assert convention.latest_task_num.call() == keccak(text="counts(uint8)")[:4] + word(1)
    assert convention.latest_task_num.read(word(9) + word(4)) == 4
    assert convention.response_window.call() == keccak(text="windows(uint8)")[:4] + word(2)


@pytest.mark.parametrize(
    ("counted", "next_expected", "next_index"),
    [
        ("", 0, 0),
        ("", 7, 7),
        ("", 2**256 - 1, 2**256 - 1),
        ("first_index = 1", 0, 1),  # also where nothing was set yet
        ("first_index = 1", 1, 1),
        ("first_index = 1", 4, 4),
        ('first_index = 1\ncount_is = "count"', 0, 1),
        ('first_index = 1\ncount_is = "count"', 3, 4),
        ('first_index = 100\ncount_is = "count"', 3, 103),
        ('first_index = 1\ncount_is = "count"', 2**256 - 1, 2**256 - 1),
        ('count_is = "count"', 3, 3),
    ],
)
def test_count_is_read_as_the_next_index(counted: str, next_expected: int, next_index: int, tmp_path: Path) -> None:
    convention = own(tmp_path, TASK + f'count_view = "count()"\n{counted}\n')
    assert convention.latest_task_num is not None
    assert convention.latest_task_num.read(word(next_expected)) == next_index


@pytest.mark.parametrize("answer", [b"", word(1)[:31], word(1) + b"\0", word(1)])
def test_view_raises_when_the_reply_lacks_the_word(answer: bytes, tmp_path: Path) -> None:
    with pytest.raises(RetryElsewhere):
        response_view(tmp_path, '{view = "batchesState(bytes32)", word = 1}').read(answer)


def test_view_of_one_word_refuses_an_answer_of_two(tmp_path: Path) -> None:
    with pytest.raises(RetryElsewhere, match="64 bytes instead of 32"):
        response_view(tmp_path, '"answers(bytes32)"').read(word(1) * 2)


def contract(convention: Convention) -> TaskManager:
    return TaskManager(None, MANAGER, convention, 100)  # type: ignore[arg-type]


def test_task_is_known_by_a_status_when_the_contract_keeps_no_hash(tmp_path: Path) -> None:
    text = TASK + 'hash_view = {view = "getTaskStatus(bytes32)", not_equals = 0}\n'
    manager = contract(own(tmp_path, text))
    view = manager.convention.all_task_hashes
    assert view is not None
    assert manager.proves_tasks
    assert manager.is_task(view.read(word(1)), b"h" * 32)
    assert not manager.is_task(view.read(word(0)), b"h" * 32)


def test_task_is_known_by_its_hash_when_the_contract_keeps_that(tmp_path: Path) -> None:
    manager = contract(own(tmp_path, TASK + 'hash = ["payload"]\nhash_view = "hashes(bytes32)"\n'))
    assert manager.is_task(b"h" * 32, b"h" * 32)
    assert not manager.is_task(b"x" * 32, b"h" * 32)
    assert not manager.is_task(None, b"h" * 32)


def task_log(convention: Convention, avs: bytes, fee: int = 5) -> Log:
    topics = (convention.created_topic, word(1), word(7), avs.rjust(32, b"\0"))
    return Log(MANAGER, topics, encode(["uint96", "bytes"], [fee, b"p"]), 12, b"\x01" * 32, b"\x02" * 32, 3)


def response_log(convention: Convention, avs: bytes) -> Log:
    topics = (convention.responded_topic or b"", word(1), word(7), avs.rjust(32, b"\0"))
    return Log(MANAGER, topics, encode(["bytes"], [b"r"]), 12, b"\x01" * 32, b"\x02" * 32, 4)


OURS = "0x" + MANAGER.hex()
FILTERS = {
    "an indexed address": (f'{{avs = "{OURS}"}}', True, False),
    "one of two addresses": (f'{{avs = ["{OURS}", "0x{"33" * 20}"]}}', True, False),
    "a number": ("{fee = 5}", True, True),
    "another number": ("{fee = 6}", False, False),
    "two fields": (f'{{avs = "{OURS}", fee = [4, 5]}}', True, False),
    "two fields, one of which differs": (f'{{avs = "{OURS}", fee = 4}}', False, False),
    "bytes": ('{payload = "0x70"}', True, True),
    "a word": ('{taskHash = "0x%s07"}' % ("00" * 31), True, True),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERS)
def test_task_of_another_service_is_excluded_by_only(name: str, tmp_path: Path) -> None:
    only, ours, others = FILTERS[name]
    manager = contract(own(tmp_path, TASK + f"only = {only}\n"))
    convention = manager.convention
    assert manager.creates_task(task_log(convention, MANAGER)) is ours
    assert manager.creates_task(task_log(convention, OTHER)) is others


def test_response_to_another_service_is_excluded_by_only(tmp_path: Path) -> None:
    manager = contract(own(tmp_path, TASK + RESPONSE + f'only = {{avs = "{OURS}"}}\n'))
    assert manager.shows_answer(response_log(manager.convention, MANAGER))
    assert not manager.shows_answer(response_log(manager.convention, OTHER))


def test_indexed_text_is_compared_by_its_hash(tmp_path: Path) -> None:
    text = (
        '[task]\nevent = "Asked(uint256 indexed id, string indexed cluster)"\nindex = "id"\nonly = {cluster = "main"}'
    )
    manager = contract(own(tmp_path, text))
    topic = manager.convention.created_topic
    for cluster, taken in ((b"main", True), (b"test", False)):
        log = Log(MANAGER, (topic, word(1), keccak(cluster)), b"", 1, b"\x01" * 32, b"\x02" * 32, 0)
        assert manager.creates_task(log) is taken


def test_unreadable_log_is_not_excluded_by_only(tmp_path: Path) -> None:
    manager = contract(own(tmp_path, TASK + f'only = {{avs = "{OURS}"}}\n'))
    log = Log(MANAGER, (manager.convention.created_topic,), b"?", 1, b"\x01" * 32, b"\x02" * 32, 0)
    assert manager.creates_task(log)


def test_call_and_signed_may_be_left_out_when_nothing_is_sent(tmp_path: Path) -> None:
    convention = own(tmp_path, TASK + RESPONSE)
    assert (convention.can_answer, convention.method, convention.aggregator) == (False, "", None)
    message = refused(tmp_path, TASK + RESPONSE, answers=True)
    assert "call: is required" in message
    assert "signed: is required" in message
    assert 'operator.api = "none"' in message
    assert own(tmp_path, TASK + RESPONSE + CALL, answers=True).method == "submitResult"


SLIPS = {
    "no index": ('{view = "a(uint8)", arguments = [1]}', "response.hash_view: arguments: no parameter takes the index"),
    "arguments left out": ('{view = "a(uint8,uint32)"}', "has 2 parameters: give arguments"),
    "too few arguments": ('{view = "a(uint8,uint32)", arguments = ["$index"]}', "1 values for 2 parameters"),
    "an argument of another type": ('{view = "a(uint8,uint32)", arguments = [256, "$index"]}', "256 cannot stand"),
    "text for a number": ('{view = "a(uint8,uint32)", arguments = ["x", "$index"]}', "x cannot stand for uint8"),
    "short bytes": ('{view = "a(bytes4,uint32)", arguments = ["0x01", "$index"]}', "0x01 cannot stand"),
    "an argument of two words": ('{view = "a(string,uint32)", arguments = ["x", "$index"]}', "is longer than one word"),
    "the index for an address": ('{view = "a(address)"}', "$index is a whole number or bytes32"),
    "no function": ('{view = "a"}', "not a signature"),
    "a word below zero": ('{view = "a(uint32)", word = -1}', "response.hash_view.word: must be 0 or more"),
    "a word far off": ('{view = "a(uint32)", word = 64}', "response.hash_view.word: must be 63 or less"),
    "equal to text": ('{view = "a(uint32)", equals = "done"}', "equals: must be a whole number, true, false, or 0x"),
    "equal to a fraction": ('{view = "a(uint32)", equals = 1.5}', "equals: must be a whole number"),
    "equal to nothing": ('{view = "a(uint32)", equals = []}', "a list of 1 to 16 values"),
    "equal and not equal": ('{view = "a(uint32)", equals = 1, not_equals = 2}', "give equals or not_equals, not both"),
    "a key with a slip": ('{view = "a(uint32)", equal = 1}', "equal: is not known; did you mean equals?"),
    "a number": ("5", "response.hash_view: must be a function of the index"),
    "brackets without end": ('"a(((((((((((((((((((("', "response.hash_view: must be a function of the index"),
}  # fmt: skip


@pytest.mark.parametrize("name", SLIPS)
def test_error_in_a_view_names_its_key(name: str, tmp_path: Path) -> None:
    view, message = SLIPS[name]
    assert message in refused(tmp_path, TASK + RESPONSE + f"hash_view = {view}\n")


OTHER_SLIPS = {
    "a hash compared with a constant": (
        'hash = ["payload"]\nhash_view = {view = "a(bytes32)", equals = 1}', "leave hash or those out"),
    "a view of a task that says nothing": ('hash_view = "a(bytes32)"', "needs equals or not_equals"),
    "a filter and the count of all": (f'only = {{avs = "{OURS}"}}\ncount_view = "count()"', "leave count_view out"),
    "a filter by what is not there": ('only = {who = "x"}', "has no 'who'"),
    "a filter of another type": ('only = {avs = "x"}', "only: avs: x cannot stand for address"),
    "a filter by a list in a list": ("only = {fee = [[1]]}", "task.only"),
    "a filter that is none": ("only = 5", "task.only: must be a table of paths"),
    "a filter of too many": (
        f"only = {{{', '.join(f'a{number} = 1' for number in range(20))}}}", "task.only"),
    "a count of the index": ('count_view = {view = "a(uint32)", arguments = ["$index"]}', "cannot take $index"),
    "a count that is compared": ('count_view = {view = "a()", equals = 1}', "leave equals and not_equals out"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_SLIPS)
def test_error_in_a_task_names_its_key(name: str, tmp_path: Path) -> None:
    key, message = OTHER_SLIPS[name]
    assert message in refused(tmp_path, TASK + key + "\n")
