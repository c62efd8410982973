"""The dry run against real contracts on anvil: refusals are read as what they are, and no trouble holds a POST."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web
from eth_abi.abi import encode

from tests.integration.convention_rig import CASES, CHAINBASE, SQUARING, WIZARD, Case, every_case, make, respond, world
from tests.integration.node_rig import Answers, Relay, relaying
from tests.kit.clocks import AheadClock
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.dry_run import DryRun
from watcher.chain.reverts import Meaning
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Unread
from watcher.devnet.contract import call_data
from watcher.devnet.world import Devnet
from watcher.state import State
from watcher.task import Header, NotYet, OpenTask, RespondedByUs, Verdict, WouldRevert

CONTRACTS = Path(__file__).parents[1] / "contracts"


@dataclass
class Rig:
    """A devnet of one convention, a relay in front of its node, and a dry run that reads through it."""

    net: Devnet
    case: Case
    relay: Relay
    nodes: NodePool
    contract: TaskManager
    clock: AheadClock
    dry_run: DryRun

    async def head(self) -> Header:
        return await self.nodes.head()

    async def open_tasks(self, *indices: int, **change: Any) -> list[OpenTask]:
        """Tasks of the chain as the submitter holds them, with the case's answer."""
        head = await self.head()
        convention = self.contract.convention
        page = await self.nodes.page(LogQuery(self.contract.address, [convention.created_topic], 0, head.number))
        tasks = {task.task_index: task for task in (convention.decode_task(log, 31337, 100) for log in page.logs)}
        answer = self.case.as_bytes(self.case.answer)
        return [OpenTask(i, replace(tasks[i], **change), State.COMPUTED, 1, 0, 0, answer) for i in indices]

    async def say(self, *indices: int, **change: Any) -> list[tuple[Meaning, str] | None]:
        tasks = await self.open_tasks(*indices, **change)
        meanings = await self.dry_run.check(tasks, await self.head())
        return [None if refusal is None else (refusal.meaning, refusal.reason) for refusal in meanings]

    async def resolve(self, tasks: Sequence[OpenTask]) -> Sequence[Verdict]:
        """Return the verdict that the submitter gets where the resolver lets everything pass."""
        at = await self.head()

        async def resolve(asked: Sequence[OpenTask]) -> Sequence[Verdict]:
            return [NotYet(at) for _ in asked]

        return await self.dry_run.before(resolve)(tasks)


@asynccontextmanager
async def rehearsing(case: Case, **options: Any) -> AsyncIterator[Rig]:
    async with world(case, **options) as client, relaying(client.devnet.rpc_url) as relay:
        clock = AheadClock()
        nodes = NodePool([Node(relay.url, 31337, clock)], clock, Random(1))
        try:
            address = bytes.fromhex(client.devnet.task_manager[2:])
            contract = TaskManager(nodes, address, convention(case.name), 100)
            yield Rig(client.devnet, case, relay, nodes, contract, clock, DryRun(contract, clock))
        finally:
            await nodes.close()


def texts(case: Case) -> dict[str, str]:
    """The refusals a dry run can meet, as the convention words them."""
    texts = {
        "other": "Supplied task does not match the one recorded in the contract",
        "twice": "Aggregator has already responded to the task",
        "late": "Aggregator has responded too late",
    }
    if case is SQUARING:
        texts |= {"other": "s" + texts["other"][1:], "late": "Aggregator has responded to the task too late"}
    if case is CHAINBASE:
        texts = {name: f"ChainbaseServiceManager: {text[0].lower()}{text[1:]}" for name, text in texts.items()}
    return texts


@every_case
async def test_each_refusal_of_each_convention_has_its_meaning(case: Case) -> None:
    expected = texts(case)
    unsigned = "BLSSignatureChecker.checkSignatures: input quorum length mismatch"
    async with rehearsing(case, window_blocks=10) as rig:
        block = await make(rig.net, case, 2)
        # At the head, which is the very block that made them: the response could be mined in the next.
        assert await rig.say(0, 1) == [(Meaning.ADMISSIBLE, unsigned)] * 2
        assert await rig.say(0, task_index=5) == [(Meaning.PARK, expected["other"])]
        await respond(rig.net, case, 0, block)
        assert await rig.say(0, 1) == [(Meaning.WAIT, expected["twice"]), (Meaning.ADMISSIBLE, unsigned)]
        await rig.net.chain.mine(20)
        late = [(Meaning.ADMISSIBLE, unsigned)] if case is CHAINBASE else [(Meaning.PARK, expected["late"])]
        assert await rig.say(1) == late
        nobody = await rig.net.manager.create_task(case.as_bytes(case.question), 66, b"")
        assert await rig.say(nobody) == [(Meaning.PARK, "BLSSignatureChecker.checkSignatures: empty quorum input")]


async def test_dry_run_changes_only_verdicts_of_refused_answers() -> None:
    async with rehearsing(WIZARD, window_blocks=10) as rig:
        await make(rig.net, WIZARD, 3)
        good, other, retried = await rig.open_tasks(0, 1, 2)
        other = replace(other, task=replace(other.task, task_index=7))
        retried = replace(retried, attempts=1, task=replace(retried.task, task_index=7))
        await rig.resolve([good])  # reads aggregator()
        rig.relay.asked.clear()
        head = await rig.head()
        verdicts = await rig.resolve([good, other, retried])
        note = f"a dry run at block {head.number} says: {texts(WIZARD)['other']}"
        assert verdicts == [NotYet(head), WouldRevert(head, note, park=True), NotYet(head)]
        assert [batch for batch in rig.relay.asked if "eth_call" in batch] == [["eth_chainId", "eth_call", "eth_call"]]


async def test_dry_run_is_skipped_when_the_verdict_sends_nothing() -> None:
    async with rehearsing(WIZARD) as rig:
        await make(rig.net, WIZARD, 1)
        (open_task,) = await rig.open_tasks(0)
        answered = RespondedByUs(None)  # type: ignore[arg-type]

        async def resolve(_: Sequence[OpenTask]) -> Sequence[Verdict]:
            return [answered]

        rig.relay.asked.clear()
        assert await rig.dry_run.before(resolve)([open_task]) == [answered]
        assert rig.relay.asked == []


async def test_answer_is_due_at_the_next_block_when_refused_for_now() -> None:
    async with rehearsing(WIZARD) as rig:
        block = await make(rig.net, WIZARD, 1)
        open_tasks = await rig.open_tasks(0)
        await respond(rig.net, WIZARD, 0, block)
        (verdict,) = await rig.resolve(open_tasks)
        assert isinstance(verdict, WouldRevert)
        assert (verdict.park, verdict.reason.startswith("not sent yet: ")) == (False, True)


async def test_dry_run_finds_a_new_aggregator() -> None:
    async with rehearsing(WIZARD) as rig:
        await make(rig.net, WIZARD, 1)
        assert [refusal and refusal[0] for refusal in await rig.say(0)] == [Meaning.ADMISSIBLE]
        roles = rig.net.manager.roles
        await rig.net.chain.run(roles.owner, rig.net.task_manager, call_data("setAggregator", roles.generator))
        assert [refusal and refusal[0] for refusal in await rig.say(0)] == [Meaning.ADMISSIBLE]


async def deploy_early(rig: Rig) -> None:
    """Put a contract that checks the reference block first in place of the devnet's."""
    code = json.loads((CONTRACTS / "early_task_manager.json").read_text())["EarlyTaskManager"]
    roles = rig.net.manager.roles
    arguments = encode(["uint32", "address", "address"], [100, roles.aggregator, roles.generator])
    made = await rig.net.chain.run(roles.owner, None, bytes.fromhex(code[2:]) + arguments)
    rig.net.manager.address = str(made["contractAddress"])
    rig.contract.address = bytes.fromhex(rig.net.manager.address[2:])


def without_overrides(asked: Answers, answers: Answers) -> Answers:
    """The answers of a node whose eth_call takes two parameters."""
    error = {"code": -32602, "message": "too many arguments, want at most 2"}
    return [
        {"jsonrpc": "2.0", "id": answer["id"], "error": error} if len(call["params"]) > 2 else answer
        for call, answer in zip(asked, answers, strict=True)
    ]


async def test_answer_at_the_head_passes_when_the_contract_wants_an_older_block() -> None:
    async with rehearsing(WIZARD, window_blocks=10) as rig:
        await deploy_early(rig)
        await rig.net.manager.create_task(b"early")
        (task,) = await rig.open_tasks(0)
        head = await rig.head()
        assert task.task.seen_at.block_number == head.number
        (refused,) = await rig.dry_run.check([task], head)
        assert refused is not None and refused.meaning is Meaning.NEXT, "at the task's own block it reverts"
        (refused,) = await rig.dry_run.check([task], head, next_block=True)
        assert refused is not None and refused.meaning is Meaning.ADMISSIBLE
        assert await rig.resolve([task]) == [NotYet(head)]
        rig.relay.asked.clear()
        await rig.resolve([task])
        assert rig.relay.asked[-1] == ["eth_chainId", "eth_call"], "the trial of the node is not repeated"


async def test_answer_at_the_head_is_sent_when_no_node_runs_the_next_block() -> None:
    async with rehearsing(WIZARD, window_blocks=10) as rig:
        await deploy_early(rig)
        rig.relay.twist = without_overrides
        await rig.net.manager.create_task(b"early")
        (task,) = await rig.open_tasks(0)
        head = await rig.head()
        (refused,) = await rig.dry_run.check([task], head, next_block=True)
        assert refused is not None and refused.meaning is Meaning.NEXT
        assert await rig.resolve([task]) == [NotYet(head)]
        older = replace(task, task=replace(task.task, seen_at=replace(task.task.seen_at, block_number=head.number - 1)))
        (verdict,) = await rig.resolve([older])
        assert isinstance(verdict, WouldRevert), "below the head the refusal is one"
        assert rig.nodes.seen[0].reason is None


def test_early_artifact_is_of_the_source_beside_it() -> None:
    source = (CONTRACTS / "EarlyTaskManager.sol").read_bytes()
    artifact = json.loads((CONTRACTS / "early_task_manager.json").read_text())
    assert artifact["source_sha256"] == hashlib.sha256(source).hexdigest(), "compile it with compile.mjs's settings"


async def test_dry_run_is_off_when_the_aggregator_is_refused() -> None:
    def lying(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"result": "0x" + "00" * 12 + "77" * 20} if "0x245a7bfc" in str(ask) else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    async with rehearsing(WIZARD) as rig:
        await make(rig.net, WIZARD, 1)
        rig.relay.twist = lying
        assert await rig.say(0) == [None]
        rig.relay.asked.clear()
        assert await rig.say(0) == [None]
        assert ["eth_chainId", "eth_call"] not in rig.relay.asked, "it is off"
        rig.relay.twist = lambda _, answers: answers
        rig.dry_run.follow(bytes.fromhex(rig.net.manager.roles.aggregator[2:]), anew=True)
        assert [refusal and refusal[0] for refusal in await rig.say(0)] == [Meaning.ADMISSIBLE]


async def test_dry_run_is_off_when_there_is_no_aggregator() -> None:
    def without(asked: Answers, answers: Answers) -> Answers:
        revert = {"code": 3, "message": "execution reverted", "data": "0x"}
        return [
            {"jsonrpc": "2.0", "id": reply["id"], "error": revert} if "0x245a7bfc" in str(ask) else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    async with rehearsing(WIZARD) as rig:
        await make(rig.net, WIZARD, 1)
        rig.relay.twist = without
        open_tasks = await rig.open_tasks(0)
        assert await rig.resolve(open_tasks) == [NotYet(await rig.head())]


def broken(error: dict[str, Any]) -> Any:
    """A node that refuses every call of somebody's in this way."""

    def twist(asked: Answers, answers: Answers) -> Answers:
        return [
            {"jsonrpc": "2.0", "id": reply["id"], "error": error} if "'from'" in str(ask) else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    return twist


@pytest.mark.parametrize(
    "error",
    [
        {"code": -32000, "message": "execution reverted"},
        {"code": 3, "message": "execution reverted", "data": "0x"},
        {"code": -32603, "message": "internal error"},
        {"code": -32602, "message": "invalid argument 0: json: unknown field from"},
        {"code": -32000, "message": "intrinsic gas too low"},
    ],
)
async def test_node_stays_in_use_when_its_dry_runs_fail(error: dict[str, Any]) -> None:
    async with rehearsing(WIZARD) as rig:
        await make(rig.net, WIZARD, 1)
        open_tasks = await rig.open_tasks(0)
        rig.relay.twist = broken(error)
        assert await rig.resolve(open_tasks) == [NotYet(await rig.head())]
        assert rig.nodes.seen[0].reason is None


async def test_node_that_hangs_costs_one_pause() -> None:
    async def hang(asked: Answers) -> web.StreamResponse | None:
        if "'from'" in str(asked):
            await asyncio.sleep(600)
        return None

    async with rehearsing(WIZARD) as rig:
        await make(rig.net, WIZARD, 1)
        tasks, head = await rig.open_tasks(0), await rig.head()
        rig.relay.first = hang
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        assert await rig.resolve(tasks) == [NotYet(head)]
        assert loop.time() - began_s > 2.0
        rig.relay.asked.clear()
        assert await rig.resolve(tasks) == [NotYet(head)]
        assert not [batch for batch in rig.relay.asked if "eth_call" in batch], "it is not tried again for a while"
        assert rig.nodes.seen[0].reason is None
        rig.relay.first = None
        rig.clock.ahead_s = 61
        assert [refusal and refusal[0] for refusal in await rig.say(0)] == [Meaning.ADMISSIBLE]


async def test_dry_run_is_unknown_when_the_state_is_not_kept() -> None:
    async with rehearsing(WIZARD) as rig:
        await make(rig.net, WIZARD, 1)
        open_tasks = await rig.open_tasks(0)
        assert await rig.dry_run.explain(open_tasks, Header(1, b"\x77" * 32, b"")) == [None]
        explained = await rig.dry_run.explain(open_tasks, await rig.head())
        assert explained[0] is not None
        assert "length mismatch (all but the signatures holds)" in explained[0]


async def test_dry_run_is_skipped_for_an_answer_that_is_too_long() -> None:
    async with rehearsing(WIZARD) as rig:
        await make(rig.net, WIZARD, 4)
        open_tasks = await rig.open_tasks(0, 1, 2, 3)
        sizes = (300_000, 100_000, 100_000, 100_000)
        open_tasks = [replace(task, response=b"x" * size) for task, size in zip(open_tasks, sizes, strict=True)]
        await rig.say(0)
        rig.relay.asked.clear()
        meanings = await rig.dry_run.check(open_tasks, await rig.head())
        assert [refusal and refusal.meaning for refusal in meanings] == [None, *[Meaning.ADMISSIBLE] * 3]
        assert [len(batch) - 1 for batch in rig.relay.asked if "eth_call" in batch] == [2, 1]


async def test_nodes_agree_on_a_refusal_in_different_words() -> None:
    def worded(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"error": reply["error"] | {"message": "VM execution error."}} if "error" in reply else reply
            for reply in answers
        ]

    async with rehearsing(WIZARD) as rig, relaying(rig.net.rpc_url) as other:
        await make(rig.net, WIZARD, 1)
        nodes = NodePool([Node(relay.url, 31337, rig.clock) for relay in (rig.relay, other)], rig.clock, Random(1), 2)
        contract = TaskManager(nodes, rig.contract.address, rig.contract.convention, 100)
        dry_run = DryRun(contract, rig.clock)
        tasks, at = await rig.open_tasks(0), await rig.head()
        other.twist = worded
        try:
            assert [refusal and refusal.meaning for refusal in await dry_run.check(tasks, at)] == [Meaning.ADMISSIBLE]
            other.twist = broken({"code": 3, "message": "execution reverted", "data": "0x"})
            assert await dry_run.check(tasks, at) == [None]
            (read,) = await contract.simulate([contract.convention.dry_run(tasks[0].task, b"x")], b"\x11" * 20, at)
            assert isinstance(read, Unread) and "disagree" in read.reason
        finally:
            await nodes.close()


def test_every_convention_has_a_case() -> None:
    assert len(CASES) == 4


async def test_dry_run_has_the_sender_that_the_convention_names(tmp_path: Path) -> None:
    """The wizard's aggregator may answer; its generator, were it named by mistake, may not, and that ends the play."""
    preset = files("watcher.chain.convention").joinpath("presets", "wizard.toml").read_text()
    for view, reason in (("aggregator()", "input quorum length mismatch"), ("generator()", None), ("nobody()", None)):
        file = tmp_path / "own.toml"
        file.write_text(preset.replace("[call]\n", f'[call]\nsender_view = "{view}"\n'))
        async with rehearsing(WIZARD, window_blocks=10) as rig:
            rig.contract.convention = convention("custom", file)
            await make(rig.net, WIZARD, 1)
            await rig.net.mine()
            (refusal,) = await rig.say(0)
            assert (refusal is None) == (reason is None)
            assert refusal is None or reason is None or reason in refusal[1]
