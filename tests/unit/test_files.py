"""JSON from outside is parsed or refused, whatever the interpreter's recursion limit is."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher import files

flat = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(flat, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=50)


@given(values)
def test_any_document_of_ordinary_depth_is_read(value: object) -> None:
    assert files.parse(json.dumps(value).encode()) == value


@fuzzed
@given(st.binary())
def test_any_bytes_are_read_or_a_value_error(body: bytes) -> None:
    try:
        files.parse(body)
    except ValueError:
        pass


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":[', '{"":[1,[],'])
@pytest.mark.parametrize("closed", [True, False])
def test_deep_nesting_is_refused_when_web3_has_raised_the_recursion_limit(opening: str, closed: bool) -> None:
    # In a process of its own: without the guard this is a segmentation fault, not an exception.
    pairs = {"[": "]", "{": "}"}
    closing = "".join(pairs[bracket] for bracket in reversed(opening) if bracket in pairs) if closed else ""
    program = f"""
import sys
from watcher import files
sys.setrecursionlimit(100_000)
try:
    files.parse(({opening!r} * 200_000 + "1" + {closing!r} * 200_000).encode())
except ValueError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "refused"), done.stderr[-500:]


def test_many_shallow_things_are_not_deep() -> None:
    body = json.dumps([{"topics": ["[", "]"], "x": [[], {}]}] * 10_000).encode()
    assert len(files.parse(body)) == 10_000
