"""`watcher check` against real parts: each thing that can be wrong has a line of its own, which says what to do."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
from aiohttp import web

from tests.integration.convention_rig import WIZARD, respond
from tests.integration.node_rig import Answers, Relay, relaying, serving
from tests.system.daemon_rig import Rig, running_rig
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.clock import SystemClock
from watcher.doctor.examine import Examination, exit_code
from watcher.doctor.finding import Finding
from watcher.doctor.log_search import Search
from watcher.settings import load

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD = "n0t-for-any-screen"
NOBODY = "0x" + "77" * 20
PRESETS = Path(convention.__code__.co_filename).with_name("presets")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """The wizard's contract behind a proxy, as most are, with three tasks."""
    async with running_rig(
        tmp_path_factory.mktemp("wizard"), hook="square", password=PASSWORD, upgradeable=True
    ) as running:
        (running.hook_folder / "moody.py").write_text(MOODY)
        await running.create(3)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def squaring(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Another convention, with one task."""
    folder = tmp_path_factory.mktemp("squaring")
    async with running_rig(folder, hook="square", password=PASSWORD, convention="incredible-squaring") as running:
        (running.hook_folder / "moody.py").write_text(MOODY)
        await running.create()
        yield running


MOODY = """
from watcher import Later, Skip


def raising(task):
    raise ValueError("no price today")


def short(task):
    return b"abc"


def skipping(task):
    return Skip("not for us")


def postponing(task):
    return Later(blocks=2, reason="too early")
"""


class Checked:
    """What one check found, by part and by line."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings, self.code = findings, exit_code(findings)
        assert PASSWORD not in repr(findings)

    def line(self, what: str, check: str) -> Finding:
        (finding,) = [finding for finding in self.findings if (finding.what, finding.check) == (what, check)]
        return finding

    def red(self) -> list[tuple[str, str]]:
        return [(finding.what, finding.check) for finding in self.findings if finding.verdict == "wrong"]

    def not_green(self) -> list[tuple[str, str]]:
        # Where the machine keeps its temporary files in memory, that is told of the ledger too, and rightly.
        odd = [(finding.what, finding.check) for finding in self.findings if finding.verdict != "ok"]
        return [line for line in odd if line != ("ledger", "file system")]


async def checked(
    rig: Rig,
    changes: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    target: str = "rig_hook:square",
) -> Checked:
    rig.write_config(target=target, changes=changes)
    settings = load.load(rig.config, environ={**rig.environment, **(environment or {})})
    return Checked(await Examination(settings).run())


@asynccontextmanager
async def behind(rig: Rig) -> AsyncIterator[Relay]:
    async with relaying(rig.net.rpc_url) as relay:
        yield relay


def to(relay: Relay, rig: Rig) -> Mapping[str, str]:
    """Changes of the settings: the relay is the node."""
    return {f'"{rig.net.rpc_url}", ': f'"{relay.url}", '}


# -- all is well -------------------------------------------------------------------------------------------------------


async def test_every_line_is_green_and_no_file_stays_when_all_is_well(rig: Rig) -> None:
    before = {path for path in rig.folder.rglob("*") if "__pycache__" not in path.parts}
    result = await checked(rig)
    assert (result.code, result.not_green()) == (0, [])
    parts = list(dict.fromkeys(finding.what for finding in result.findings))
    assert parts == ["settings", "ledger", "node", "contract", "API", "hook"]
    assert "task 2 of the contract with 32 bytes" in result.line("hook", "sample").message
    assert "3 tasks so far" in result.line("contract", "views").message
    aggregator = rig.net.manager.roles.aggregator.lower()
    assert aggregator in result.line("contract", "aggregator").message
    assert "respondToTask" in result.line("contract", "method").message  # which stands in the code behind the proxy
    left = {path for path in rig.folder.rglob("*") if "__pycache__" not in path.parts} - before
    assert left <= {rig.config, rig.hook_folder / "said"}
    assert rig.received() == []


async def test_the_command_prints_the_same_for_people_and_for_machines(rig: Rig) -> None:
    rig.write_config(target="rig_hook:square")
    done = await rig.command("check", "--json")
    assert (done.code, done.err) == (0, "")
    assert all({"what", "verdict", "words", "check"} == set(finding) for finding in done.json)
    table = await rig.command("check", COLUMNS="250")
    assert (table.code, table.err) == (0, "")
    assert "\x1b" not in table.out
    rows = [[cell.strip() for cell in line.split("│")] for line in table.out.splitlines() if line.startswith("│ ")]
    rows_shown = {(row[1], row[2]) for row in rows if row[1]}
    assert rows_shown == {(f"{finding['what']}: {finding['check']}", finding["verdict"]) for finding in done.json}
    assert len(table.out.splitlines()) <= 30  # one screen


async def test_running_daemon_is_green_and_lost_ledger_is_red(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig:
        daemon = await rig.start()
        result = await checked(rig)
        assert (result.code, result.not_green()) == (0, [])
        assert "writable" in result.line("ledger", "schema").message
        assert daemon.running
        assert await daemon.stop() == 0
        result = await checked(rig, {f"start_block = {rig.net.manager.deployed_block}": "start_block = 3"})
        assert (result.code, result.red()) == (78, [("ledger", "beginning")])
        content = rig.ledger.read_bytes()
        await asyncio.to_thread(rig.ledger.unlink)
        result = await checked(rig)
        assert (result.code, result.red()) == (78, [("ledger", "reading")])
        assert "is gone or empty" in result.line("ledger", "reading").message
        await asyncio.to_thread(rig.ledger.write_bytes, content[: len(content) // 2])
        result = await checked(rig)
        assert result.red()[0][0] == "ledger"
        assert rig.ledger.read_bytes() == content[: len(content) // 2]


# -- what must be distinct ---------------------------------------------------------------------------------------------


async def test_each_of_five_mistakes_has_its_red_line_and_exit_code(rig: Rig, squaring: Rig) -> None:
    net = rig.net
    mistakes: Mapping[str, tuple[Rig, Mapping[str, str], Mapping[str, str]]] = {
        "event signature": (squaring, {'convention = "incredible-squaring"': 'convention = "wizard"'}, {}),
        "address": (rig, {net.task_manager: NOBODY}, {}),
        "method": (rig, {'method = "respondToTask"': 'method = "respondToRequest"'}, {}),
        "credentials": (rig, {}, {"WATCHER_OPERATOR__PASSWORD": "another"}),
        "chain": (rig, {"chain_id = 31337": "chain_id = 17000"}, {}),
    }
    lines = {}
    for name, (at, changes, environment) in mistakes.items():
        at.write_config(target="rig_hook:square", changes=changes)
        done = await at.command("check", "--json", environment=environment)
        assert done.code == 78, (name, done)
        red = [finding for finding in done.json if finding["verdict"] == "wrong"]
        assert red, name
        lines[name] = red[0]["what"], red[0]["check"], red[0]["words"]
        assert "Traceback" not in done.err
    assert len({message for _, _, message in lines.values()}) == len(lines)
    assert {name: line[:2] for name, line in lines.items()} == {
        "event signature": ("contract", "events"),
        "address": ("contract", "code"),
        "method": ("contract", "method"),
        "credentials": ("API", "credentials"),
        "chain": ("node", "chain id"),
    }
    assert "your event signature does not match: the contract counts 1 tasks" in lines["event signature"][2]
    assert "this looks like incredible-squaring: set that" in lines["event signature"][2]
    assert "1695b8d0" in lines["event signature"][2]
    assert "there is no contract at" in lines["address"][2]
    assert 'it has respondToTask: set operator.method = "respondToTask"' in lines["method"][2]
    assert "check [operator] username and its password" in lines["credentials"][2]
    assert {"31337", "17000"} <= set(lines["chain"][2].replace(",", " ").replace(";", " ").split())


async def test_exit_code_is_69_when_the_problem_may_pass(rig: Rig) -> None:
    down = await checked(rig, {f'"{rig.net.rpc_url}", ': '"http://127.0.0.1:9", '})
    assert (down.code, down.red()) == (69, [("node", "endpoint"), ("contract", "code")])
    down = await checked(rig, {rig.net.api_url: "http://127.0.0.1:9"})
    assert (down.code, down.red()) == (69, [("API", "reachable")])
    both = await checked(rig, {rig.net.api_url: "http://127.0.0.1:9", rig.net.task_manager: NOBODY})
    assert both.code == 78


# -- the contract ------------------------------------------------------------------------------------------------------


async def test_wrong_preset_is_red_by_views_events_and_method(squaring: Rig) -> None:
    result = await checked(squaring, {'convention = "incredible-squaring"': 'convention = "chainbase"'})
    assert result.red()[0] == ("contract", "events")
    assert "looks like incredible-squaring" in result.line("contract", "events").message
    assert 'task_manager.convention = "incredible-squaring"' in result.line("contract", "method").message
    result = await checked(squaring, {'api = "operator"': 'api = "proxy"'})
    assert result.red() == [("contract", "api")]
    assert "[operator.direct]" in result.line("contract", "api").message


async def own(folder: Path, changes: Mapping[str, str]) -> Mapping[str, str]:
    """Settings for the wizard's convention as a file of one's own, with something changed in it."""
    text = (PRESETS / "wizard.toml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    file = folder / "own.toml"
    await asyncio.to_thread(file.write_text, text)
    return {'convention = "wizard"': f'convention = "custom"\nconvention_file = "{file}"'}


async def test_mistake_in_a_custom_convention_is_reported_with_the_emitted_event(rig: Rig, tmp_path: Path) -> None:
    file = await own(tmp_path, {"NewTaskCreated(uint32 indexed": "NewTaskCreated(uint256 indexed"})
    message = (result := await checked(rig, file)).line("contract", "events").message
    assert (result.code, result.red()) == (78, [("contract", "events")])
    assert "this looks like wizard or wizard-bridge" in message
    renamed = await own(tmp_path, {'"NewTaskCreated(': '"TaskWasCreated('})
    message = (result := await checked(rig, renamed)).line("contract", "events").message
    assert (result.code, result.red()) == (78, [("contract", "events")])
    assert "this looks like wizard or wizard-bridge" in message
    assert "made-up task" in result.line("hook", "sample").message
    order = "uint32 taskCreatedBlock, uint32 quorumThresholdPercentage"
    swapped = await own(tmp_path, {order: "uint32 quorumThresholdPercentage, uint32 taskCreatedBlock"})
    result = await checked(rig, swapped)
    # The proxy API builds the wizard's order of values, so that it cannot serve this one, whatever the contract is.
    assert (result.code, result.red()) == (78, [("contract", "api")])
    assert result.not_green() == [("contract", "created block"), ("contract", "api")]
    assert "says block 66" in result.line("contract", "created block").message
    missing = await own(tmp_path, {"TASK_RESPONSE_WINDOW_BLOCK()": "responseWindow()"})
    message = (result := await checked(rig, missing)).line("contract", "views").message
    assert result.red() == [("contract", "views")]
    assert "but not responseWindow()" in message
    broken = await own(tmp_path, {'index = "taskIndex"': 'index = "number"'})
    assert (await checked(rig, broken)).red() == [("contract", "convention")]


async def test_unknown_topics_are_named_and_other_hashes_are_red(rig: Rig) -> None:
    created, stranger = WIZARD.created, "5a" * 32
    async with behind(rig) as relay:
        relay.twist = lambda _asked, answers: json.dumps(answers).replace(created, stranger).encode()
        result = await checked(rig, to(relay, rig))
        assert (result.code, result.red()) == (78, [("contract", "events")])
        message = result.line("contract", "events").message
        assert "0x5a5a5a5a… ×3" in message
        assert "AggregatorUpdated" in message
        assert "describe the event" in message
        changed = (3).to_bytes(32, "big").hex()  # the message of task 2
        relay.twist = lambda _asked, answers: json.dumps(answers).replace(changed, "2" * 64).encode()
        result = await checked(rig, to(relay, rig))
        assert result.red() == [("contract", "events")]
        assert "another hash of task 2" in result.line("contract", "events").message


async def test_answers_without_an_event_are_red(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig:
        await rig.net.create_tasks([WIZARD.question])
        block = await rig.net.chain.head()
        await rig.net.mine()
        rig.net.chain.impatient = True
        await respond(rig.net, WIZARD, 0, block)
        assert (await checked(rig)).red() == []
        renamed = await own(tmp_path, {'"TaskResponded(': '"TaskAnswered('})
        result = await checked(rig, renamed)
        assert result.red() == [("contract", "events")]
        assert "signature of the event for answers does not match" in result.line("contract", "events").message


async def test_answer_is_red_when_the_contract_holds_another_hash(tmp_path: Path) -> None:
    """Such a slip is silent in the daemon: it waits for an answer that is there."""
    both = '["taskResponse", "taskResponseMetadata"]'
    async with running_rig(tmp_path, hook="square") as rig:
        await rig.net.create_tasks([WIZARD.question])
        block = await rig.net.chain.head()
        await rig.net.mine()
        rig.net.chain.impatient = True
        await respond(rig.net, WIZARD, 0, block)
        result = await checked(rig)
        assert result.not_green() == []
        assert "holds the answer to task 0" in result.line("contract", "answers").message
        mistaken = {
            "response.hash": ({f"hash = {both}": 'hash = ["taskResponse"]'}, "another word for task 0"),
            "response.event": (
                {"uint32 taskResponsedBlock, bytes32 hash": "bytes32 taskResponsedBlock, bytes32 hash"},
                "signature of the event for answers",
            ),
        }
        for changes, message in mistaken.values():
            result = await checked(rig, await own(tmp_path, changes))
            ((what, line),) = result.red()
            assert (what, result.code) == ("contract", 78)
            assert message in result.line(what, line).message
        elsewhere = {'index = "taskResponse.referenceTaskIndex"': 'index = "taskResponseMetadata.taskResponsedBlock"'}
        result = await checked(rig, await own(tmp_path, elsewhere))
        assert result.not_green() == [("contract", "answers")]
        assert "correct response.index" in result.line("contract", "answers").message


_TASK = 'hash = ["task"]\nhash_view = "allTaskHashes(uint32)"'
_ANSWER = 'hash = ["taskResponse", "taskResponseMetadata"]\nhash_view = "allTaskResponses(uint32)"'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (_TASK, _TASK.replace('"task"', '"task.message"'), "another hash of task 2"),
        (_TASK, _TASK.replace("allTaskHashes", "allTaskResponses"), "allTaskResponses(uint32) holds nothing of it"),
        (_ANSWER, _ANSWER.replace("allTaskResponses", "allTaskHashes"), "not zero for task 2 in the block that made"),
        (_ANSWER, 'hash_view = "allTaskHashes(uint32)"', "not zero for task 2 in the block that made it"),
    ],
    ids=["task.hash", "task.hash_view", "response.hash_view", "response.hash_view alone"],
)
async def test_a_wrong_hash_or_view_is_red_by_its_value(
    old: str, new: str, message: str, rig: Rig, tmp_path: Path
) -> None:
    result = await checked(rig, await own(tmp_path, {old: new}))
    assert result.code == 78
    lines = [result.line(*name).message for name in result.red()]
    key = old.partition(" =")[0] if new.startswith("hash =") else ""
    assert any(message in line and "correct" in line and key in line for line in lines), lines


async def test_count_is_red_when_indices_do_not_follow_it(rig: Rig, tmp_path: Path) -> None:
    result = await checked(rig, await own(tmp_path, {'index = "taskIndex"': 'index = "task.taskCreatedBlock"'}))
    assert ("contract", "count") in result.red()
    assert "the contract counts 3 tasks, and has made task" in result.line("contract", "count").message

    def without_the_first(asked: Answers, answers: Answers) -> Answers:
        first = "0x" + "0" * 64
        for ask, reply in zip(asked, answers, strict=True):
            if ask["method"] == "eth_getLogs":
                reply["result"] = [log for log in reply["result"] if log["topics"][1:2] != [first]]
        return answers

    async with behind(rig) as relay:
        relay.twist = without_the_first
        result = await checked(rig, to(relay, rig))
        assert (result.code, result.red()) == (78, [("contract", "count")])
        assert "the first since is task 1: the node holds logs back" in result.line("contract", "count").message


async def test_view_is_red_when_it_answers_more_than_one_word(rig: Rig, tmp_path: Path) -> None:
    def two_words(asked: Answers, answers: Answers) -> Answers:
        for ask, reply in zip(asked, answers, strict=True):
            if ask["method"] == "eth_call" and "2cb223d5" in json.dumps(ask["params"]):
                reply["result"] = "0x" + "0" * 128
        return answers

    async with behind(rig) as relay:
        relay.twist = two_words
        result = await checked(rig, to(relay, rig))
        assert result.code == 78
        assert result.red()[0] == ("contract", "views")
        assert "but not allTaskResponses(uint32) in one word of 32 bytes" in result.line("contract", "views").message


async def test_newest_task_is_found_when_it_lies_far_back(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        net, clock = rig.net, SystemClock()
        await net.mine(20)
        await rig.create(2)
        made = await net.chain.head()
        await net.mine(500)
        nodes = NodePool([Node(net.rpc_url, net.chain_id, clock)], clock, Random(1))
        manager = TaskManager(nodes, bytes.fromhex(net.task_manager[2:]), convention("wizard"), 100)
        try:
            head = await nodes.head()
            assert await Search(nodes, manager, head, 1).counted(2) == made
            assert (await Search(nodes, manager, head, 10).created(1)).logs[0].block_number == made
            few = await Search(nodes, manager, head, 1).created(1)
            assert (few.logs, few.first) == ((), head.number - 8 * 50 + 1)
        finally:
            await nodes.close()
        # With spans of one block neither end shows it: the contract's own count tells where to look.
        short = {"WATCHER_CHAIN__MAX_SPAN_BLOCKS": "1"}
        result = await checked(rig, None, short)
        assert f"was seen in block {made}" in result.line("contract", "events").message
        result = await checked(rig, await own(tmp_path, {'"NewTaskCreated(': '"TaskWasCreated('}), short)
        assert result.red() == [("contract", "events")]
        assert "looks like wizard" in result.line("contract", "events").message


async def test_aggregator_is_red_when_it_is_the_zero_address(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, behind(rig) as relay:
        aggregator = rig.net.manager.roles.aggregator[2:].lower()
        relay.twist = lambda _asked, answers: json.dumps(answers).replace("0" * 24 + aggregator, "0" * 64).encode()
        result = await checked(rig, to(relay, rig))
        assert result.red() == [("contract", "aggregator")]
        assert "zero address" in result.line("contract", "aggregator").message


async def test_aggregator_is_read_from_the_view_of_the_convention(rig: Rig, tmp_path: Path) -> None:
    method = 'method = "respondToTask"'
    result = await checked(rig, await own(tmp_path, {method: method + '\nsender_view = "generator()"'}))
    assert (result.code, result.not_green()) == (0, [])
    assert rig.net.manager.roles.generator.lower() in result.line("contract", "aggregator").message
    result = await checked(rig, await own(tmp_path, {method: method + '\nsender_view = "nobody()"'}))
    assert (result.code, result.red()) == (78, [("contract", "aggregator")])
    assert "correct call.sender_view" in result.line("contract", "aggregator").message


# -- the node ----------------------------------------------------------------------------------------------------------


async def test_endpoint_is_red_when_it_times_out(rig: Rig) -> None:
    never = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with serving(hang) as url:
        began_s = asyncio.get_running_loop().time()
        result = await checked(rig, {f'"{rig.net.rpc_url}", ': f'"{url}", '}, {"WATCHER_CHAIN__REQUEST_TIMEOUT_S": "1"})
        assert asyncio.get_running_loop().time() - began_s < 60
        never.set()
    assert result.code == 69
    assert "within 1 s" in result.line("node", "endpoint").message
    assert result.line("hook", "sample").verdict == "ok"


@pytest.mark.parametrize(("status", "code"), [(401, 78), (403, 78), (404, 78), (302, 78), (429, 69), (503, 69)])
async def test_endpoint_has_exit_code_78_when_it_refuses_the_key(rig: Rig, status: int, code: int) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with serving(refuse) as url:
        result = await checked(rig, {f'"{rig.net.rpc_url}", ': f'"{url}", '})
        assert (result.code, result.red()) == (code, [("node", "endpoint"), ("contract", "code")])
        both = await checked(rig, {f'"{rig.net.rpc_url}", ': f'"{rig.net.rpc_url}", "{url}", '})
        assert (both.code, both.not_green()) == (0, [("node", "endpoint")])


async def test_dead_spare_is_yellow_and_spare_of_another_chain_is_red(rig: Rig) -> None:
    result = await checked(rig, {f'"{rig.net.rpc_url}", ': f'"{rig.net.rpc_url}", "http://127.0.0.1:9", '})
    assert (result.code, result.not_green()) == (0, [("node", "endpoint")])
    async with behind(rig) as relay:
        relay.twist = lambda _asked, answers: json.dumps(answers).replace('"0x7a69"', '"0x1"').encode()
        result = await checked(rig, {f'"{rig.net.rpc_url}", ': f'"{rig.net.rpc_url}", "{relay.url}", '})
    assert (result.code, result.red()) == (78, [("node", "chain id")])


async def test_websocket_is_yellow_when_it_takes_no_subscription(rig: Rig) -> None:
    async with behind(rig) as relay:  # which speaks HTTP only
        for url in ("ws://127.0.0.1:9", relay.url.replace("http://", "ws://")):
            result = await checked(rig, {f'"{rig.net.ws_url}"': f'"{url}"'})
            assert (result.code, result.not_green()) == (0, [("node", "wake-up")])
            assert "new tasks are seen later" in result.line("node", "wake-up").message
    assert "takes the subscriptions" in (await checked(rig)).line("node", "wake-up").message


async def test_node_is_reported_when_it_lacks_state_logs_or_final_blocks(rig: Rig) -> None:
    refused = {"code": -32000, "message": "missing trie node 5a1f (path ) state is not available"}
    head = hex(await rig.net.chain.head())

    def no_archive(asked: Answers, answers: Answers) -> Answers:
        for at, ask in enumerate(asked):
            if ask["method"] == "eth_call" and ask["params"][0].get("data", "0x") == "0x":
                answers[at] = {"jsonrpc": "2.0", "id": ask["id"], "error": refused}
        return answers

    def no_logs(asked: Answers, answers: Answers) -> Answers:
        for at, ask in enumerate(asked):
            if ask["method"] == "eth_getLogs" and ask["params"][0]["toBlock"] != head:
                answers[at] = {"jsonrpc": "2.0", "id": ask["id"], "error": {"code": 4444, "message": "pruned history"}}
        return answers

    def no_tags(asked: Answers, answers: Answers) -> Answers:
        for at, ask in enumerate(asked):
            if ask["method"] == "eth_getBlockByNumber" and ask["params"][0] == "finalized":
                answers[at] = {"jsonrpc": "2.0", "id": ask["id"], "result": None}
        return answers

    async with behind(rig) as relay:
        relay.twist = no_archive
        result = await checked(rig, to(relay, rig))
        assert (result.code, result.not_green()) == (0, [("node", "history")])
        relay.twist = no_logs
        result = await checked(rig, to(relay, rig))
        assert (result.code, result.red()) == (69, [("node", "history")])
        assert "pruned history" in result.line("node", "history").message
        relay.twist = no_tags
        result = await checked(rig, to(relay, rig))
        assert (result.code, result.not_green()) == (0, [("node", "finality")])


async def test_small_batch_limit_is_reported_and_no_batches_at_all_is_yellow(rig: Rig) -> None:
    async with behind(rig) as relay:
        most = 10

        def limited(asked: Answers, answers: Answers) -> Answers | web.Response:
            return answers if len(asked) <= most else web.Response(status=413)

        relay.twist = limited
        result = await checked(rig, to(relay, rig))
        assert (result.code, result.not_green()) == (0, [])
        assert "takes 6 calls in a batch" in result.line("node", "batches").message
        most = 1
        result = await checked(rig, to(relay, rig))
        assert (result.code, result.not_green()) == (0, [("node", "batches")])


async def test_genesis_is_red_when_the_chain_was_reset(tmp_path: Path) -> None:
    async with running_rig(tmp_path / "old", hook="square") as rig:
        daemon = await rig.start()
        assert await daemon.stop() == 0
        assert (await checked(rig)).not_green() == []
        ledger = rig.ledger
        async with running_rig(tmp_path / "new", hook="square") as anew:
            url = {"WATCHER_LEDGER__URL": f"sqlite:///{ledger}"}
            result = await checked(anew, environment=url)
            assert (result.code, result.red()) == (78, [("node", "genesis")])
            assert "needs a new ledger" in result.line("node", "genesis").message
            refused = await anew.command("run", environment=url)
            assert (refused.code, "needs a new ledger" in refused.err) == (78, True)


async def test_clock_is_yellow_when_it_is_wrong(rig: Rig) -> None:
    async with behind(rig) as relay:

        def old(asked: Answers, answers: Answers) -> Answers:
            for ask, answer in zip(asked, answers, strict=True):
                if ask["method"] == "web3_clientVersion":
                    answer["result"] = "Geth/v1.16.7"
                if ask["method"] == "eth_getBlockByNumber" and answer["result"]:
                    answer["result"]["timestamp"] = "0x65000000"
            return answers

        relay.twist = old
        result = await checked(rig, to(relay, rig))
        assert (result.code, result.not_green()) == (0, [("node", "clock")])


async def test_finality_of_zero_blocks_is_yellow(rig: Rig) -> None:
    result = await checked(rig, environment={"WATCHER_CHAIN__FINALITY": "0"})
    assert (result.code, result.not_green()) == (0, [("node", "finality")])
    assert "takes back what was called final" in result.line("node", "finality").message
    assert (await checked(rig, environment={"WATCHER_CHAIN__FINALITY": "1"})).not_green() == []


async def test_credentials_are_yellow_when_others_can_read_them(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    environment = {"CREDENTIALS_DIRECTORY": str(folder)}
    secret = folder / "operator__password"
    secret.write_text(PASSWORD)
    (folder / "somebody_elses").write_text("")
    for folder_mode, mode, is_told in ((0o755, 0o644, True), (0o755, 0o640, False), (0o750, 0o644, False)):
        folder.chmod(folder_mode)
        secret.chmod(mode)
        result = await checked(rig, environment=environment)
        assert result.code == 0
        assert result.not_green() == ([("settings", "secrets")] if is_told else [])
    secret.chmod(0o644)
    folder.chmod(0o755)
    message = (await checked(rig, environment=environment)).line("settings", "secrets").message
    assert message.startswith("every user of this machine can read operator__password in")
    ran = await rig.command("run", "--until-idle", environment=environment)
    assert (ran.code, ran.err.count(message)) == (0, 1), ran.err


# -- API, hook, ledger -------------------------------------------------------------------------------------------------


async def test_second_api_is_tried_too(rig: Rig) -> None:
    direct = {"WATCHER_OPERATOR__DIRECT__URL": rig.net.api_url, "WATCHER_OPERATOR__DIRECT__AVS_NAME": "devnet"}
    result = await checked(rig, None, direct)
    assert (result.code, [finding.what for finding in result.findings].count("API")) == (0, 2)
    result = await checked(rig, None, {**direct, "WATCHER_OPERATOR__DIRECT__USERNAME": "somebody"})
    assert (result.code, result.red()) == (78, [("API", "credentials")])
    message = result.line("API", "credentials").message
    assert message.startswith("[operator.direct] ")
    assert "check [operator.direct] username and its password" in message


@pytest.mark.parametrize("status", [200, 302, 404, 405])
async def test_api_has_exit_code_78_when_another_server_answers(rig: Rig, status: int) -> None:
    async def another(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="<html>not here</html>", headers={"Location": "/login"})

    async with serving(another) as url:
        result = await checked(rig, {rig.net.api_url: url})
    assert (result.code, result.red()) == (78, [("API", "address")])
    assert "url" in result.line("API", "address").message
    result = await checked(rig, {rig.net.api_url: rig.net.rpc_url})  # a node, which speaks JSON-RPC too
    assert (result.code, result.red()) == (78, [("API", "address")])


@pytest.mark.parametrize("status", [429, 502])
async def test_api_has_exit_code_69_when_it_asks_for_patience(rig: Rig, status: int) -> None:
    async def busy(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with serving(busy) as url:
        result = await checked(rig, {rig.net.api_url: url})
    assert (result.code, result.red()) == (69, [("API", "reachable")])


async def test_hook_that_cannot_load_has_a_red_line_with_a_remedy(rig: Rig) -> None:
    for target in ("nowhere:respond", "moody:nothing", "moody"):
        result = await checked(rig, target=target)
        assert (result.code, result.red()) == (78, [("hook", "loading")])
        assert "correct hook.target" in result.line("hook", "loading").message


async def test_shadow_that_cannot_load_has_a_yellow_line(rig: Rig) -> None:
    shadow = "WATCHER_HOOK__SHADOW__TARGET"
    result = await checked(rig, None, {shadow: "nowhere:respond"})
    assert (result.code, result.red()) == (0, [])
    line = result.line("hook", "shadow")
    assert line.verdict == "warning"
    assert line.message.startswith("hook.shadow.target = 'nowhere:respond': there is no module nowhere ")
    result = await checked(rig, None, {shadow: "rig_hook:square"})
    assert (result.code, result.line("hook", "shadow").verdict) == (0, "ok")


async def test_wrong_settings_are_printed_as_json(rig: Rig) -> None:
    rig.write_config(target="rig_hook:square", changes={"chain_id = 31337": "chain_id = 0"})
    done = await rig.command("check", "--json", environment={"WATCHER_OPERATOR__PASSWORD": ""})
    assert done.code == 78
    assert {(finding["what"], finding["check"], finding["verdict"]) for finding in done.json} == {
        ("settings", "complete", "wrong")
    }
    assert {finding["words"].partition(":")[0] for finding in done.json} == {"chain.chain_id", "operator.password"}


async def test_hook_is_red_when_its_answer_has_another_type(rig: Rig, squaring: Rig) -> None:
    result = await checked(rig, target="moody:raising")
    assert (result.code, result.red()) == (78, [("hook", "sample")])
    assert "no price today" in result.line("hook", "sample").message
    result = await checked(rig, await own(rig.folder, {'"NewTaskCreated(': '"Other('}), target="moody:raising")
    assert result.line("hook", "sample").verdict == "warning"
    for target, message in (("moody:skipping", "not for us"), ("moody:postponing", "too early")):
        result = await checked(rig, target=target)
        assert (result.code, result.not_green()) == (0, [])
        assert message in result.line("hook", "sample").message
    assert (await checked(squaring)).not_green() == []
    result = await checked(squaring, target="moody:short")
    assert result.red() == [("hook", "sample")]
    assert "uint256" in result.line("hook", "sample").message


async def test_observer_is_green_without_api_and_hook(rig: Rig) -> None:
    result = await checked(rig, {'api = "proxy"': 'api = "none"'})
    assert (result.code, result.not_green()) == (0, [])
    assert {finding.what for finding in result.findings} == {"settings", "ledger", "node", "contract"}


# -- a start in the middle ---------------------------------------------------------------------------------------------


async def test_check_is_green_when_the_start_lies_above_older_tasks(tmp_path: Path) -> None:
    """Older tasks in the newest blocks belong to somebody else: the first task is the first one since the start."""
    async with running_rig(tmp_path, hook="square", password=PASSWORD) as rig:
        deployed = f"start_block = {rig.net.manager.deployed_block}"
        await rig.create(3)
        older = await rig.net.chain.head()
        await rig.net.mine(20)
        start = older + 10
        # Above all tasks, in the block of the newest one, and before the tasks that come later.
        assert (await checked(rig, {deployed: f"start_block = {start}"})).not_green() == []
        assert (await checked(rig, {deployed: f"start_block = {older}"})).red() == []
        await rig.create(2)
        await rig.net.mine(3)
        for span in ("2000", "8"):
            short = {"WATCHER_CHAIN__MAX_SPAN_BLOCKS": span}
            result = await checked(rig, {deployed: f"start_block = {start}"}, short)
            assert (result.code, result.not_green()) == (0, [])


async def test_check_is_red_when_a_log_since_the_start_is_withheld(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square", password=PASSWORD) as rig:
        deployed = f"start_block = {rig.net.manager.deployed_block}"
        await rig.create(2)
        start = await rig.net.chain.head() + 1
        await rig.net.mine(3)
        await rig.create(1)
        await rig.net.mine()
        await rig.create(1)
        third = "0x" + f"{2:064x}"

        def without_the_third(asked: Answers, answers: Answers) -> Answers:
            for ask, reply in zip(asked, answers, strict=True):
                if ask["method"] == "eth_getLogs":
                    reply["result"] = [log for log in reply["result"] if log["topics"][1:2] != [third]]
            return answers

        async with behind(rig) as relay:
            relay.twist = without_the_third
            result = await checked(rig, {**to(relay, rig), deployed: f"start_block = {start}"})
            assert result.red() == [("contract", "count")]
            assert f"counted 2 tasks before block {start}" in result.line("contract", "count").message
