"""Which conventions the proxy API can serve: by what it builds, not by how the file looks."""

from pathlib import Path

import pytest

from watcher.chain.convention.convention import convention
from watcher.chain.convention.proxy_call import proxy_builds

PRESET = Path(convention.__code__.co_filename).with_name("presets") / "wizard.toml"
CALL = 'values = ["task", ["$index", "$answer"]]'
SIGNED = 'types = ["(uint32,bytes)"]\nvalues = [["$index", "$answer"]]'


def serves(folder: Path, *changes: tuple[str, str]) -> bool:
    text = PRESET.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = folder / "own.toml"
    file.write_text(text)
    return proxy_builds(convention("custom", file))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("wizard", True), ("wizard-bridge", True), ("incredible-squaring", False), ("chainbase", False)],
)
def test_proxy_serves_the_presets_of_the_wizard_alone(name: str, expected: bool) -> None:
    assert proxy_builds(convention(name)) == expected


@pytest.mark.parametrize(
    "change",
    [
        (
            CALL,
            'values = [["$created_block", "$quorum_threshold", "$message", "$quorum_numbers"], ["$index", "$answer"]]',
        ),
        ("NewTaskCreated(", "RequestCreated("),
        ('method = "respondToTask"', 'method = "respondToRequest"'),
        ("bytes message, bytes quorumNumbers) task", "bytes message, bytes quorumNumbers) task, address creator"),
    ],
)
def test_proxy_serves_a_shape_that_means_the_same(change: tuple[str, str], tmp_path: Path) -> None:
    assert serves(tmp_path, change)


@pytest.mark.parametrize(
    "change",
    [
        # The same types in the same order, with another meaning.
        ('message = "task.message"', 'message = "task.quorumNumbers"'),
        ('created_block = "task.taskCreatedBlock"', 'created_block = "task.quorumThresholdPercentage"'),
        (
            "uint32 taskCreatedBlock, uint32 quorumThresholdPercentage",
            "uint32 quorumThresholdPercentage, uint32 taskCreatedBlock",
        ),
        (CALL, 'values = ["task", ["$created_block", "$answer"]]'),
        (CALL, 'values = ["task", ["$index", "$message"]]'),
        (
            'types = ["(uint32,uint32,bytes,bytes)", "(uint32,bytes)"]',
            'types = ["(uint32,uint32,bytes,bytes)", "(uint64,bytes)"]',
        ),
        # The call is the wizard's, what is signed is not.
        (SIGNED, 'types = ["uint32", "bytes"]\nvalues = ["$index", "$answer"]'),
        (SIGNED, 'packed = true\ntypes = ["uint32", "bytes"]\nvalues = ["$index", "$answer"]'),
        (SIGNED, 'types = ["address", "(uint32,bytes)"]\nvalues = ["$task_manager", ["$index", "$answer"]]'),
    ],
)
def test_proxy_is_refused_for_a_shape_of_other_meaning(change: tuple[str, str], tmp_path: Path) -> None:
    assert not serves(tmp_path, change)
