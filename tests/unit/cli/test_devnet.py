"""The task that `watcher devnet` proposes to ask: one that the hook can decode."""

import shlex

import pytest

from watcher.abi.layout import layout
from watcher.chain.convention.literals import encode_literals, value_types
from watcher.cli.devnet import example


@pytest.mark.parametrize(
    "types",
    [
        "(uint256 number, address owner)",
        "(uint8, bool, bytes4 tag, bytes data, string name)",
        "(uint256[] numbers, (address to, string note)[2] parts)",
        "uint256",
        "string",
    ],
)
def test_example_of_a_task_has_the_types_of_the_hook(types: str) -> None:
    flag, abi, *values = shlex.split(example("bytes", {"message": types}))
    form = layout("message", types)
    assert flag == "--abi" and form is not None
    assert form.is_canonical(encode_literals(value_types(abi), values))


def test_example_without_types_is_that_of_the_convention() -> None:
    assert example("bytes", {}) == "0x2a"
    assert example("string", {"message": "no type"}) == "--abi string 'a text'", "`watcher run` reports the type"
