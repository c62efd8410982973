"""Convention files as nobody should write them: one short line each that says what is wrong, and nothing else."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher.chain.convention.convention import Convention, convention
from watcher.errors import FixConfiguration

EVENT = (
    'event = "NewTaskCreated(uint32 indexed taskIndex, (uint32 taskCreatedBlock, uint32 threshold, bytes message,'
    ' bytes quorums) task)"'
)
GOOD = f"""
answer = "bytes"
[task]
{EVENT}
index = "taskIndex"
created_block = "task.taskCreatedBlock"
message = "task.message"
quorum_numbers = "task.quorums"
quorum_threshold = "task.threshold"
hash = ["task"]
hash_view = "allTaskHashes(uint32)"
count_view = "latestTaskNum()"
[deadline]
window_view = "TASK_RESPONSE_WINDOW_BLOCK()"
[response]
event = "TaskResponded((uint32 index, bytes message) response, (uint32 block, bytes32 nonSigners) metadata)"
index = "response.index"
answer = "response.message"
hash = ["response", "metadata"]
hash_view = "allTaskResponses(uint32)"
[call]
method = "respondToTask"
types = ["(uint32,uint32,bytes,bytes)", "(uint32,bytes)"]
values = ["task", ["$index", "$answer"]]
[signed]
types = ["(uint32,bytes)"]
values = [["$index", "$answer"]]
"""
SIGNED = '[signed]\ntypes = ["(uint32,bytes)"]\nvalues = [["$index", "$answer"]]'
ANSWERED = 'values = ["task", ["$index", "$answer"]]'
LINE_LIMIT_CHARS = 1500


def of(folder: Path, text: str) -> Convention:
    file = folder / "own.toml"
    file.write_text(text)
    return convention("custom", file)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(FixConfiguration) as wrong:
        of(folder, text)
    message = str(wrong.value)
    assert message.isprintable()
    assert len(message) < LINE_LIMIT_CHARS
    assert "own.toml" in message or "abi" in message
    return message


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


SLIPS = {
    "a missing key": ('index = "taskIndex"', "", "task.index: is required"),
    "a key with a slip": ('count_view = "', 'count_veiw = "', "count_veiw: is not known; did you mean count_view?"),
    "a key that begins as a type does": ("[call]", "[call]\ninterval = 5", "call.interval: is not known"),
    "a table with a slip": ("[deadline]", "[deadlin]", "deadlin: is not known; did you mean deadline?"),
    "another type": ('index = "taskIndex"', "index = 5", "task.index: must be text in quotes"),
    "a table in place of text": ('index = "taskIndex"', "index = {a = 1}", "task.index: must be text in quotes"),
    "no path at all": ('message = "task.message"', 'message = ""', "task.message: must not be empty"),
    "dots alone": ('message = "task.message"', 'message = "..."', "has no '...'"),
    "a path into a value": ('= "task.message"', '= "task.message.task.message"', "it has taskIndex, task,"),
    "a path without end": ('message = "task.message"', f'message = "{"task." * 800}"', "has no 'task.task."),
    "a threshold nobody reaches": ('"task.threshold"', "101", "quorum_threshold: must be a path, or a number"),
    "a number beyond all bounds": ('"task.threshold"', "9" * 5000, "holds a number that is far too long"),
    "a threshold that is no number": ('"task.threshold"', '"task.message"', "is bytes, and must be a uint"),
    "quorums that are no bytes": ('"task.quorums"', '"task.threshold"', "must be bytes, or a list of uint"),
    "quorums of text": ('"task.quorums"', '["a"]', "task.quorum_numbers: must be a path, or numbers from 0 to 255"),
    "a quorum twice": ('"task.quorums"', "[0, 0]", "task.quorum_numbers: names a quorum twice"),
    "more quorums than there are": ('"task.quorums"', str([1] * 300), "task.quorum_numbers"),
    "a window of nothing": ('window_view = "TASK_RESPONSE_WINDOW_BLOCK()"', "window_blocks = 0", "must be 1 or more"),
    "two deadlines": ("[deadline]", "[deadline]\nwindow_blocks = 5", "deadline: give one of"),
    "a view of a window with an argument": ("WINDOW_BLOCK()", "WINDOW_BLOCK(uint32)", "deadline.window_view: must be"),
    "a count with an argument": ("latestTaskNum()", "latestTaskNum(uint32)", "task.count_view: must be"),
    "a first index below zero": ('count_view = "', 'first_index = -1\ncount_view = "', "must be 0 or more"),
    "a first index beyond": ('count_view = "', f'first_index = {2**65}\ncount_view = "', "task.first_index: must be"),
    "a first index as text": ('count_view = "', 'first_index = "1"\ncount_view = "', "task.first_index: must be"),
    "a first index of truth": ('count_view = "', 'first_index = true\ncount_view = "', "task.first_index: must be"),
    "a count of another kind": (
        'count_view = "', 'count_is = "last"\ncount_view = "', 'task.count_is: must be "next" or "count"'),
    "a count of no kind": ('count_view = "', 'count_is = ""\ncount_view = "', 'count_is: must be "next" or "count"'),
    "a first index of no count": (
        'count_view = "latestTaskNum()"', "first_index = 1", "count_is and first_index describe count_view"),
    "a hash of nothing": ("allTaskHashes(uint32)", "allTaskHashes()", "task.hash_view: must be"),
    "a view by what is no type": ("allTaskHashes(uint32)", "allTaskHashes(uint7)", "'uint7' is no ABI type"),
    "a type that is none": (SIGNED, SIGNED.replace("bytes", "octets", 1), "signed.types: 'octets' is no ABI type"),
    "a type that breaks off": (SIGNED, SIGNED.replace("bytes)", "", 1), "signed.types"),
    "a type of blanks": (SIGNED, SIGNED.replace("(uint32,bytes)", " ", 1), "signed.types"),
    "two types in one": (SIGNED, SIGNED.replace("(uint32,bytes)", "uint32,bytes", 1), "is not one type"),
    "an array beyond all bounds": ('"bytes"', '"uint256[4000000000]"', "answer: 'uint256[4000000000]'"),
    "an array within arrays": ('"bytes"', '"uint256[999][999][999]"', "answer: 'uint256[999][999][999]'"),
    "an array of too many dimensions": ('"bytes"', f'"uint8{"[]" * 500}"', "answer: "),
    "a type nobody makes up": ('"bytes"', '"fixed128x18"', "answer: 'fixed128x18' is no ABI type"),
    "a word that is none": (ANSWERED, ANSWERED.replace("$index", "$indexx"), "there is no $indexx"),
    "a yes for a value": (ANSWERED, ANSWERED.replace('"$index"', "true"), "true cannot stand for uint32"),
    "a fraction": (ANSWERED, ANSWERED.replace('"$index"', "1.5"), "call.values: each must be a path"),
    "a day": (ANSWERED, ANSWERED.replace('"$index"', "1979-05-27"), "call.values: each must be a path"),
    "lists in lists": (ANSWERED, f"values = {'[' * 40}{']' * 40}", "call.values: each must be a path"),
    "a number too large": (ANSWERED, ANSWERED.replace('"$index"', "4294967296"), "cannot stand for uint32"),
    "too few values": (SIGNED, SIGNED.replace('"$index", ', ""), "1 values cannot stand for (uint32,bytes)"),
    "a method with its types": ('method = "respondToTask"', 'method = "respondToTask(uint32)"', "call.method: must be"),
    "a name given twice": ("uint32 threshold,", "uint32 message,", "two values called message"),
    "an index that hides another": ("taskIndex, (", "taskIndex, uint8 taskIndex, (", "two values called taskIndex"),
    "more topics than a log has": (
        "indexed taskIndex", "indexed taskIndex, uint8 indexed a, uint8 indexed b, uint8 indexed c", "at most three"),
    "the hash of a message": ("bytes quorums) task)", "bytes quorums) indexed task)", "holds only its hash"),
    "half a proof": ('hash_view = "allTaskHashes(uint32)"', "", "task: hash and hash_view belong together"),
    "colours": ('index = "taskIndex"', 'index = "\\u001b[31mx\\n"', "has no '\\x1b[31mx\\n'"),
    "no TOML": ("[task]", "[task", "not TOML"),
}  # fmt: skip


def test_template_file_is_valid(tmp_path: Path) -> None:
    assert of(tmp_path, GOOD).method == "respondToTask"


@pytest.mark.parametrize("name", SLIPS)
def test_error_in_a_file_is_one_line(name: str, tmp_path: Path) -> None:
    old, new, message = SLIPS[name]
    assert message in refused(tmp_path, changed(old, new))


def test_all_problems_are_listed_up_to_a_limit(tmp_path: Path) -> None:
    message = refused(tmp_path, "")
    assert all(f"{table}: is required" in message for table in ("task", "call", "signed"))
    message = refused(tmp_path, GOOD + "".join(f"key{number} = 1\n" for number in range(5_000)))
    assert "more" in message.rpartition(";")[2]


@pytest.mark.parametrize("brackets", ["[", "{a=", "[{a=[{a="])
@pytest.mark.parametrize("depth", [100, 5000, 100_000])
def test_file_is_refused_when_nested_too_deeply(brackets: str, depth: int, tmp_path: Path) -> None:
    refused(tmp_path, GOOD.replace(ANSWERED, f"values = {brackets * depth}"))
    refused(
        tmp_path, GOOD + f"x = {brackets * depth}1{(brackets[::-1]).translate(str.maketrans('[{', ']}', 'a=')) * depth}"
    )
    refused(tmp_path, GOOD + f"[{'a.' * min(depth, 5000)}a]\nx = 1")


ABI_EVENT = GOOD.replace(EVENT, 'event = "NewTaskCreated"')
PARAMETER = {"type": "uint32", "name": "taskIndex", "indexed": True}


def abi(*inputs: object, **more: object) -> str:
    return json.dumps([{"type": "event", "name": "NewTaskCreated", "inputs": list(inputs), **more}])


def nested(depth: int) -> str:
    inner = '{"type":"tuple","components":[' * depth + "]}" * depth
    return '[{"type":"event","name":"NewTaskCreated","inputs":[' + inner + "]}]"


ABIS = {
    "brackets without end": ("[" * 200_000, "abi must name a JSON file"),
    "tuples without end": (nested(20_000), "abi must name a JSON file"),
    "tuples in tuples": (nested(20), "nested too deep"),
    "no JSON": ("{", "abi must name a JSON file"),
    "not a number": ("[NaN]", "abi must name a JSON file"),
    "no ABI": ('{"abi": 5}', "neither an ABI nor a compiler's artifact"),
    "a word": ('"abi"', "neither an ABI"),
    "many others": (json.dumps([{"type": "event", "name": f"E{n}", "inputs": []} for n in range(30_000)]), "0 events"),
    "odd names": ('[{"type":"event","name":"\\ud800","inputs":[]},{"type":"event","name":"\\u001b[31m"}]', "0 events"),
    "no inputs": ('[{"type":"event","name":"NewTaskCreated"}]', "has no name or no inputs"),
    "inputs that are none": (abi(3, None), "has no type"),
    "types that are none": (abi({"type": ["uint32"], "name": 5}), "has no type"),
    "a tuple of nothing": (abi({"type": "tuple", "name": "a", "components": []}), "is no ABI type"),
    "a tuple that is none": (abi({"type": "tuplexyz", "name": "a", "components": [PARAMETER]}), "is no ABI type"),
    "components of another kind": (abi({"type": "tuple", "components": {"a": 1}}), "has no components"),
    "too many parameters": (abi(*[{"type": "bool", "name": f"a{n}"} for n in range(65)]), "more than 64"),
    "the same twice": (json.dumps(json.loads(abi(PARAMETER)) * 2), "2 events"),
    "an anonymous one": (abi(PARAMETER, anonymous=True), "anonymous"),
}  # fmt: skip


@pytest.mark.parametrize("name", ABIS)
def test_hostile_abi_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    text, message = ABIS[name]
    (tmp_path / "abi.json").write_text(text)
    assert message in refused(tmp_path, 'abi = "abi.json"\n' + ABI_EVENT)
    if len(text) < 2000 and text.startswith("[{") and text.count('"event"') == 1 and "0 events" not in message:
        entry = text[1:-1]
        refused(tmp_path, GOOD.replace(EVENT, f"event = '''{entry}'''"))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _long(path: Path) -> None:
    path.write_text(GOOD + "# " + "x" * 10_000_000)


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def _loop(path: Path) -> None:
    path.symlink_to(path)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "a folder": (Path.mkdir, "is a folder"),
    "a pipe nobody writes to": (_pipe, "is not a regular file"),
    "a link to itself": (_loop, "cannot be read"),
    "too long": (_long, "is longer than"),
    "no text": (_binary, "is not UTF-8 text"),
}


@pytest.mark.parametrize("name", FILES)
def test_unreadable_file_is_named(name: str, tmp_path: Path) -> None:
    make, message = FILES[name]
    file = tmp_path / "own.toml"
    make(file)
    with pytest.raises(FixConfiguration) as wrong:
        convention("custom", file)
    assert f"own.toml: {message}" in str(wrong.value)
    (tmp_path / "other.toml").write_text(f'abi = "{file.name}"\n' + ABI_EVENT)
    with pytest.raises(FixConfiguration) as wrong:
        convention("custom", tmp_path / "other.toml")
    assert f"own.toml: {message}" in str(wrong.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_file_without_read_permission_is_named(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(GOOD)
    file.chmod(0)
    with pytest.raises(FixConfiguration, match="may not be read by this user"):
        convention("custom", file)


@pytest.mark.parametrize("path", ["\0", "x" * 5000, "/dev/zero", "/proc/self/mem"])
def test_missing_file_is_named(path: str) -> None:
    with pytest.raises(FixConfiguration) as wrong:
        convention("custom", Path(path))
    assert str(wrong.value).isprintable()


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert convention("custom", file).method == "respondToTask"


def test_types_are_canonical_in_topics_and_selectors(tmp_path: Path) -> None:
    """`uint` is uint256 wherever a type is written, and names may stand beside types."""
    text = changed("uint32 indexed taskIndex", "uint256 indexed taskIndex").replace("(uint32,bytes)", "(uint256,bytes)")
    loose = text.replace('"(uint256,bytes)"', '"(uint index, bytes message)"')
    assert text != loose
    assert of(tmp_path, loose).selector() == of(tmp_path, text).selector()


VALUES = st.sampled_from(
    ["$index", "task", "taskIndex", "", "(", "uint256", "bytes[", "a.b", "9", "$answer.0", "[]", "{}"]
)


@fuzzed
@given(key=st.sampled_from([line.partition(" =")[0] for line in GOOD.splitlines() if " = " in line]),
       value=VALUES | st.text(max_size=30) | st.integers() | st.lists(VALUES, max_size=3))  # fmt: skip
def test_any_value_of_a_key_is_accepted_or_refused(
    key: str, value: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [f"{key} = {json.dumps(value)}" if line.startswith(f"{key} = ") else line for line in GOOD.splitlines()]
    with suppress(FixConfiguration):
        of(tmp_path_factory.mktemp("own"), "\n".join(lines))


# Every key there is, on a line of its own, so that each can be replaced.
FULL = f"""
answer = "bytes"
[task]
{EVENT}
index = ["taskIndex", "task.message"]
created_block = "task.taskCreatedBlock"
reference_block = "task.threshold"
message = "task.message"
quorum_numbers = "task.quorums"
quorum_threshold = "task.threshold"
threshold_scale = 10000
only = {{taskIndex = [1, 2]}}
hash_view = {{view = "states(uint8,bytes32)", arguments = [1, "$index"], word = 1, not_equals = 0}}
[deadline]
window_view = {{view = "window(uint8)", arguments = [1], word = 2}}
inclusive = false
[response]
event = "TaskResponded((uint32 index, bytes message) response, (uint32 block, bytes32 nonSigners) metadata)"
index = {{types = ["uint32", "bytes"], values = ["response.index", "response.message"]}}
answer = "response.message"
address = "0x{"22" * 20}"
[call]
method = "respondToTask"
signature_type = "bytes"
signature_at = 1
address = "0x{"33" * 20}"
sender_view = {{view = "sender()", address = "0x{"44" * 20}"}}
types = ["(uint32,bytes)", "bytes"]
values = [["$reference_block", "$answer"], {{text = "a"}}]
[signed]
types = ["bytes32", "bytes"]
values = [{{types = ["bytes"], values = ["$answer"], packed = true, keccak = true}}, {{text = "b"}}]
"""
NESTED = st.recursive(
    VALUES | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "types",
                    "values",
                    "packed",
                    "keccak",
                    "text",
                    "view",
                    "arguments",
                    "word",
                    "equals",
                    "not_equals",
                    "address",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {toml(item)}' for key, item in value.items())}}}"
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else json.dumps(value)


def test_file_with_every_key_is_accepted(tmp_path: Path) -> None:
    assert of(tmp_path, FULL).function == "respondToTask((uint32,bytes),bytes,bytes)"


@fuzzed
@given(number=st.integers(0, 10**6), value=NESTED)
def test_any_nested_value_is_accepted_or_refused(
    number: int, value: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = [line.partition(" =")[0] for line in FULL.splitlines() if " = " in line and not line.startswith("[")]
    key = keys[number % len(keys)]
    lines = [f"{key} = {toml(value)}" if line.startswith(f"{key} = ") else line for line in FULL.splitlines()]
    message = outcome_of(lambda: of(tmp_path_factory.mktemp("own"), "\n".join(lines)))
    assert message.isprintable()
    assert len(message) < 5 * LINE_LIMIT_CHARS


def outcome_of(load: Callable[[], object]) -> str:
    """What is refused, in words; "" where nothing is."""
    try:
        load()
    except FixConfiguration as wrong:
        return str(wrong)
    return ""
