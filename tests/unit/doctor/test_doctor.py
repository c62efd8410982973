"""The parts of the check that need no world: made-up tasks, names of topics, a clock, code that holds a function."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from watcher.chain.contract import TaskManager
from watcher.chain.convention.abi import topic
from watcher.chain.convention.convention import Convention, convention
from watcher.chain.convention.schema import PRESETS
from watcher.chain.convention.signature import parse_signature
from watcher.chain.rpc.nodes import NodePool
from watcher.clock import SystemClock
from watcher.doctor import contract
from watcher.doctor.finding import Finding, Notes
from watcher.doctor.hook import sample_task
from watcher.doctor.ledger import check_disk, file_system
from watcher.doctor.newest_task import check_values
from watcher.doctor.node import clock_doubt
from watcher.doctor.signatures import closest_signature, describe_topics
from watcher.doctor.subject import Subject
from watcher.settings.model import Settings
from watcher.task import Header, Sighting, Task

ADDRESS = b"\x11" * 20
IMPLEMENTATION = b"\x22" * 20
MINIMAL = bytes.fromhex("363d3d373d3d3d363d73") + IMPLEMENTATION + bytes.fromhex("5af43d82803e903d91602b57fd5bf3")


@pytest.mark.parametrize(
    ("age_s", "block_time_s", "message"),
    [
        (12, 12.0, None),
        (119, 1.0, None),
        (-59, 12.0, None),
        (0, 0.0, None),
        (-61, 12.0, "clock is behind"),
        (121, 12.0, "the node is behind"),
        (500, 60.0, None),
        (601, 60.0, "the node is behind"),
    ],
)
def test_clock_doubt_follows_the_age_of_the_newest_block(age_s: int, block_time_s: float, message: str | None) -> None:
    doubt = clock_doubt(age_s, block_time_s)
    assert (doubt is None) == (message is None)
    assert message is None or message in (doubt or "")


MOUNTS = """\
overlay / overlay rw,relatime 0 0
proc /proc proc rw 0 0
/dev/sda1 /var ext4 rw 0 0
tmpfs /var/lib/fast tmpfs rw,size=1g 0 0
server:/export /srv/my\\040data nfs4 rw 0 0
odd line
/dev/sdb1 /srv ext4 rw 0 0
tmpfs /srv tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "overlay"),
        ("/var/lib", "ext4"),
        ("/var/lib/fast", "tmpfs"),
        ("/var/lib/fast/deep/er", "tmpfs"),
        ("/var/lib/faster", "ext4"),
        ("/srv/my data/avs", "nfs4"),
        ("/srv/else", "tmpfs"),  # mounted over the one before
    ],
)
def test_file_system_is_that_of_the_nearest_mount(folder: str, kind: str) -> None:
    assert file_system(Path(folder), MOUNTS) == kind
    assert file_system(Path(folder), "") == ""


def test_disk_in_memory_or_on_a_network_is_yellow(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    for kind, message in (("tmpfs", "lies in memory (tmpfs)"), ("nfs4", "on a network disk (nfs4)"), ("ext4", None)):
        mounts.write_text(f"x / {kind} rw 0 0\n")
        notes = Notes("ledger")
        check_disk(tmp_path, notes, mounts)
        messages = [finding.message for finding in notes.findings if finding.check == "file system"]
        assert (len(messages), message is None or message in messages[0]) == (message is not None, True)


def test_topics_are_named_by_count_and_five_at_most() -> None:
    stranger = bytes.fromhex("5a" * 32)
    assert describe_topics([]) == ""
    described = describe_topics([convention("chainbase").created_topic, stranger, stranger])
    assert described == "0x5a5a5a5a… ×2, NewTaskCreated of chainbase 0xb456431e… ×1"
    assert describe_topics([bytes([number]) * 32 for number in range(9)]).endswith(", 4 more kinds")


def managing(convention: Convention) -> TaskManager:
    nodes = NodePool([cast("Any", SimpleNamespace(name="none"))], SystemClock(), Random(1))
    return TaskManager(nodes, ADDRESS, convention, 100)


def own(folder: Path, event: str, more: str = "", values: str = '["$index"]', types: str = '["uint256"]') -> Convention:
    file = folder / "own.toml"
    file.write_text(
        f'answer = "bytes"\n[task]\nevent = "{event}"\nindex = "0"\n{more}\n'
        f'[call]\nmethod = "answer"\ntypes = {types}\nvalues = {values}\n'
        f"[signed]\ntypes = {types}\nvalues = {values}\n"
    )
    return convention("custom", file)


@pytest.mark.parametrize("name", PRESETS)
def test_sample_task_is_made_for_every_preset(name: str) -> None:
    preset = convention(name)
    task = sample_task(managing(preset), 1, 100)
    assert task is not None
    assert (task.task_index, task.created_block) == (2, 2)
    assert task.message == (b"sample" if name == "chainbase" else (2).to_bytes(32))
    assert preset.fields(task)


@pytest.mark.parametrize(
    "event",
    [
        "Made(uint8 indexed i, int16 indexed j, address who, bool yes, bytes4 four, bytes20 twenty)",
        "Made(bytes32 indexed id, string indexed name, uint256[] many, uint8[3] three, (string,(bytes,uint8)[2])[] d)",
        "Made(uint256 i)",
        "Made((uint32 a, bytes b) indexed t, bytes[][2] c)",
    ],
)
def test_sample_task_is_made_for_events_of_any_types(event: str, tmp_path: Path) -> None:
    convention = own(tmp_path, event)
    task = sample_task(managing(convention), 1)
    assert task is not None
    assert convention.fields(task)


class Codes:
    """Code by address, and one storage slot."""

    def __init__(self, codes: dict[bytes, bytes], target: bytes = bytes(20)) -> None:
        self._codes, self._target = codes, target
        self.side = self

    async def code(self, address: bytes, block: int) -> bytes:
        return self._codes[address]

    async def slot(self, address: bytes, place: bytes, block: int) -> bytes:
        return bytes(12) + self._target


def code_with(*selectors: bytes) -> bytes:
    return b"\x60\x80" + b"".join(b"\x80\x63" + selector + b"\x14\x61\x00\xff\x57" for selector in selectors)


WIZARD = convention("wizard")
VIEWS = [view.selector for view in (WIZARD.latest_task_num, WIZARD.all_task_hashes) if view is not None]
TASK, REQUEST = WIZARD.selector("respondToTask"), WIZARD.selector("respondToRequest")
MACH = topic(contract._MACH)[:4]
SQUARING = convention("incredible-squaring").selector()


@pytest.mark.parametrize(
    ("code", "behind", "verdict", "message"),
    [
        (code_with(*VIEWS, TASK), None, "ok", "has respondToTask"),
        (code_with(), code_with(*VIEWS, TASK), "ok", "has respondToTask"),
        (MINIMAL, code_with(*VIEWS, TASK), "ok", "has respondToTask"),
        (code_with(*VIEWS, REQUEST), None, "wrong", 'set operator.method = "respondToRequest"'),
        (code_with(*VIEWS, SQUARING), None, "wrong", 'task_manager.convention = "incredible-squaring"'),
        (code_with(*VIEWS, MACH), None, "wrong", "confirmAlert"),
        (code_with(*VIEWS), None, "wrong", "name the function"),
        (code_with() + b"\xf4", None, "warning", "cannot be determined"),
        (code_with(*VIEWS) + b"\xf4", None, "wrong", "name the function"),
        (code_with(b"\xf4" * 4), None, "wrong", "name the function"),  # pushed, and so never run
    ],
)
async def test_method_is_searched_in_the_code_behind_proxies(
    code: bytes, behind: bytes | None, verdict: str, message: str
) -> None:
    line = await line_about(WIZARD, "respondToTask", code, behind)
    assert (line.verdict, line.check) == (verdict, "method")
    assert message in line.message


@pytest.mark.parametrize(("code_end", "verdict"), [(b"", "wrong"), (b"\xf4", "warning")])
async def test_missing_function_is_red_when_the_contract_has_no_views(
    code_end: bytes, verdict: str, tmp_path: Path
) -> None:
    line = await line_about(own(tmp_path, "Made(uint256 i)"), "answer", code_with(TASK) + code_end)
    assert (line.verdict, line.check) == (verdict, "method")


async def line_about(convention: Convention, name: str, code: bytes, behind: bytes | None = None) -> Finding:
    settings = Settings(
        **cast(
            "Any",
            {
                "chain": {"rpc_urls": ["http://127.0.0.1:9"], "chain_id": 1},
                "task_manager": {"address": "0x" + ADDRESS.hex(), "start_block": 0},
                "operator": {
                    "api": "operator",
                    "url": "http://127.0.0.1:9",
                    "avs_name": "a",
                    "password": "x",
                    "method": name,
                },
                "hook": {"target": "a:b"},
            },
        )
    )
    target = bytes(20) if behind is None or code == MINIMAL else IMPLEMENTATION
    nodes = cast("NodePool", Codes({ADDRESS: code, IMPLEMENTATION: behind or b""}, target))
    notes, head = Notes("contract"), Header(1, bytes(32), bytes(32))
    subject = Subject(nodes, managing(convention), head, settings.chain, settings.task_manager)
    await contract.check_method(subject, settings.operator, code, notes)
    (line,) = notes.findings
    return line


MEANT = "NewTaskCreated(uint32,(uint256,uint32,bytes,uint32))"


@pytest.mark.parametrize(
    "written",
    [
        "NewTaskCreated(uint256 i, (uint256 n, uint32 c, bytes q, uint32 t) t)",
        "NewTaskCreated(uint32 i, (string n, uint64 c, bytes q, uint32 t) t)",
        "NewTaskCreated(uint32 i, (uint256 n, uint32 c, bytes q) t)",
        "NewTaskCreated(uint32 i, (uint32 c, bytes q, uint32 t) t)",
        "NewTaskCreated(uint32 i, (uint256 n, uint32 c, bytes q, uint32 t, bool more) t)",
        "NewTaskCreated(uint32 i, (bool more, uint256 n, uint32 c, bytes q, uint32 t) t)",
        "NewTaskCreated(uint32 i, uint256 n, uint32 c, bytes q, uint32 t)",
        "NewTaskCreated(uint32 i, (bytes q, uint32 c, uint256 n, uint32 t) t)",
    ],
)
def test_closest_signature_is_found_when_one_differs_by_a_slip(written: str) -> None:
    strangers = [bytes([number]) * 32 for number in range(9)]
    assert closest_signature(parse_signature(written), strangers) is None
    assert closest_signature(parse_signature(written), [*strangers, topic(MEANT)]) == MEANT


def test_closest_signature_is_found_when_a_struct_is_written_flat() -> None:
    written = parse_signature("Made(uint32 i, (uint256[2] n, (uint32 c, bytes q)[] m) t)")
    flat = "Made(uint32,uint256,bytes)"
    assert closest_signature(parse_signature("Made(uint32 i, (uint256 n, bytes q) t)"), [topic(flat)]) == flat
    assert closest_signature(written, [topic("Made(uint64,(uint256[2],(uint32,bytes)[]))")]) is not None
    assert closest_signature(written, [topic("Made()")]) is None


@pytest.mark.parametrize(
    ("change", "window", "line"),
    [
        ({}, None, None),
        ({"quorum_numbers": b""}, None, ("quorums", "names no quorum")),
        ({"quorum_threshold": 101}, None, ("quorums", "101 %")),
        ({"deadline_s": 900}, None, ("deadline", "deadline.timestamp must be the last second")),
        ({"deadline_s": 1_800_000_000}, None, None),
        ({"deadline_block": 99}, None, ("deadline", "over at block 99")),
        ({"deadline_block": 100}, None, None),
        ({"deadline_block": 1_800_000_000}, None, ("deadline", "looks like a time")),
        ({"deadline_block": 100 + 2**32 - 1}, 2**32 - 1, None),
    ],
)
def test_values_are_yellow_when_they_look_like_a_slip(
    change: dict[str, Any], window: int | None, line: tuple[str, str] | None
) -> None:
    plain = Task(1, ADDRESS, 3, bytes(32), 100, b"", b"\0", 66, None, Sighting(100, bytes(32), bytes(32), 0))
    notes = Notes("contract")
    check_values(replace(plain, **change), Header(200, bytes(32), bytes(32)), window, notes)
    assert [(finding.check, finding.verdict) for finding in notes.findings] == (
        [] if line is None else [(line[0], "warning")]
    )
    assert line is None or line[1] in notes.findings[0].message


def test_selectors_are_the_published_ones() -> None:
    assert (TASK.hex(), REQUEST.hex()) == ("79b08c8d", "ea4b909e")
    selectors: Sequence[str] = [view.hex() for view in VIEWS]
    assert selectors == ["8b00ce7c", "2d89f6fc"]


@pytest.mark.parametrize(
    ("l1_blocks", "confirmations", "window", "verdict", "message"),
    [
        (False, 30, 30, "wrong", "past its window"),
        (False, 28, 30, "warning", "leave little"),
        (True, 30, 30, "ok", "the parent chain's"),
        (True, 500, 30, "ok", "the parent chain's"),
        (True, 1, 2, "warning", "little time"),
    ],
)
def test_window_counts_confirmations_in_the_same_blocks(
    l1_blocks: bool, confirmations: int, window: int, verdict: str, message: str
) -> None:
    notes = Notes("contract")
    contract.check_window(confirmations, window, notes, l1_blocks=l1_blocks)
    assert [(finding.check, finding.verdict) for finding in notes.findings] == [("window", verdict)]
    assert message in notes.findings[0].message
