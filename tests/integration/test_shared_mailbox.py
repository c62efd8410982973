"""A mailbox that many services share, with its answers at another address, on a real anvil.

A batch is named by two fields together, its digest is a hash within a hash that the contract computes itself, and the
status of an answer is one word of three.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from tests.integration.node_rig import Answers, Relay, relaying
from watcher.chain.absence import AbsenceRule
from watcher.chain.admit import Admit
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.expiry import Expiry
from watcher.chain.recheck import Recheck
from watcher.chain.resolve import Resolver
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Reverted
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.clock import SystemClock
from watcher.devnet import chain as devnet_chain
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.ledger import by_index, queries, schema
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Ledger, open_ledger
from watcher.task import NotYet, OpenTask, RespondedByUs, RespondedOtherwise


def encode_call(function: str, *values: object) -> bytes:
    types = function.partition("(")[2][:-1].split(",")
    return keccak(function.encode())[:4] + encode(types, values)


CONTRACTS = Path(__file__).parents[1] / "contracts"
OURS, THEIRS = "0x" + "33" * 20, "0x" + "44" * 20
ADA, BOB = "0x" + "aa" * 20, "0x" + "bb" * 20
ROOT, ANSWER, OTHER = b"\x0a" * 32, b"\x01" * 32, b"\x02" * 32
INDEX = '{types = ["bytes32", "address"], values = ["root", "sender"], packed = true}'
CONVENTION = """
answer = "bytes32"
[task]
event = "BatchCreated(bytes32 indexed root, address sender, address indexed avs, uint32 createdBlock)"
index = INDEX
created_block = "createdBlock"
only = {avs = "OURS"}
hash_view = {view = "batches(uint8,bytes32)", arguments = [1, "$index"], word = 1, not_equals = 0}
[response]
address = "VERIFIER"
event = "BatchAnswered(bytes32 indexed root, address sender, bytes32 answer)"
index = INDEX
answer = "answer"
hash_view = {view = "answers(bytes32)", word = 1, equals = 2}
[call]
address = "VERIFIER"
method = "respond"
signature_type = "bytes32"
signature_at = 1
types = ["bytes32", "address", "bytes32"]
values = ["root", "sender", "$answer"]
[signed]
types = ["bytes32", "bytes32"]
values = [
  {types = ["string"], values = [{text = "BatchVerifier::Answer"}], packed = true},
  {types = ["bytes32", "bytes32"], values = [
    {types = ["bytes32", "address"], values = ["root", "sender"], packed = true}, "$answer"]},
]
"""


@dataclass
class Rig:
    """The two contracts, a ledger, and the stages that read."""

    net: Devnet
    mailbox: str
    verifier: str
    contract: TaskManager
    ledger: Ledger
    watch: Watch
    resolver: Resolver
    admit: Admit
    recheck: Recheck
    source: Source
    relay: Relay

    async def create(self, root: bytes, sender: str, avs: str) -> None:
        data = encode_call("create(bytes32,address,address)", root, sender, avs)
        await self.net.chain.run(self.net.manager.roles.owner, self.mailbox, data)

    async def respond(self, open_task: OpenTask, sender: str, answer: bytes, digest: bytes) -> None:
        data = encode_call("respond(bytes32,bytes32,address,bytes32)", ROOT, digest, sender, answer)
        await self.net.chain.run(self.net.manager.roles.owner, self.verifier, data)

    async def read(self) -> list[OpenTask]:
        while await self.watch.step() == 0:
            pass
        open_tasks = await self.ledger.read(queries.newest_open, self.ledger.source_id, 100)
        return sorted(open_tasks, key=lambda task: task.task.seen_at.block_number)

    async def states(self) -> list[str]:
        rows = await self.ledger.read(lambda conn: list(queries.list_tasks(conn, self.ledger.source_id)))
        return [row.state for row in rows]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    code = json.loads((CONTRACTS / "shared_mailbox.json").read_text())
    async with AsyncExitStack() as stack:
        options = DevnetOptions(directory=tmp_path / "net", mining="auto", persist=False)
        net = await stack.enter_async_context(Devnet(options))
        made = [
            await net.chain.run(net.manager.roles.owner, None, bytes.fromhex(code[name][2:]))
            for name in ("SharedMailbox", "BatchVerifier")
        ]
        mailbox, verifier = (str(receipt["contractAddress"]) for receipt in made)
        file = tmp_path / "mailbox.toml"
        file.write_text(CONVENTION.replace("INDEX", INDEX).replace("OURS", OURS).replace("VERIFIER", verifier))
        clock = SystemClock()
        relay = await stack.enter_async_context(relaying(net.rpc_url))
        nodes = NodePool([Node(relay.url, net.chain_id, clock)], clock, Random(1))
        stack.push_async_callback(nodes.close)
        address = bytes.fromhex(mailbox[2:])
        contract = TaskManager(nodes, address, convention("custom", file), 100)
        url = parse_url(f"sqlite:///{tmp_path / 'watcher.db'}")
        schema.upgrade(url)
        start_block = int(made[0]["blockNumber"], 16)
        ledger = await stack.enter_async_context(open_ledger(url, clock, net.chain_id, address, start_block))
        source = Source(nodes, contract, ledger, clock)
        watch = Watch(source, WatchPlan(net.chain_id, 0, 100, 1))
        yield Rig(
            net,
            mailbox,
            verifier,
            contract,
            ledger,
            watch,
            Resolver(source),
            Admit(source, 0, 1),
            Recheck(source, watch.reader, 0, 100, 1),
            source,
            relay,
        )


async def test_batches_of_other_services_are_left_alone(rig: Rig) -> None:
    await rig.create(ROOT, ADA, OURS)
    await rig.create(ROOT, BOB, OURS)
    await rig.create(OTHER, ADA, THEIRS)
    open_tasks = await rig.read()
    assert len({task.task.task_index for task in open_tasks}) == len(open_tasks) == 2
    await rig.admit.step()
    assert await rig.states() == ["ready", "ready"], "the mailbox knows both by their two fields"


@pytest.mark.parametrize("ignores_topics", [False, True])
async def test_a_node_is_asked_for_the_batches_of_one_service_only(rig: Rig, ignores_topics: bool) -> None:
    """A mailbox has thousands of logs of other services. A node that sends them too is believed no more for it."""
    sent: list[str] = []

    def note(asked: Answers, answers: Answers) -> Answers:
        for question, answer in zip(asked, answers, strict=True):
            if question["method"] == "eth_getLogs":
                sent.extend(log["topics"][2] for log in answer["result"] if len(log["topics"]) > 2)
                answer["result"] += foreign if ignores_topics else []
        return answers

    await rig.create(ROOT, ADA, OURS)
    for place in range(20):
        await rig.create(bytes([place]) * 32, ADA, THEIRS)
    await rig.create(ROOT, BOB, OURS)
    head = await rig.source.nodes.head()
    page = await rig.source.nodes.page(LogQuery(rig.contract.emitters, rig.contract.convention.topics0, 0, head.number))
    assert len(page.logs) == 22
    foreign = await rig.net.chain.rpc.call(
        "eth_getLogs", {"address": rig.mailbox, "fromBlock": hex(head.number - 5), "toBlock": hex(head.number)}
    )
    rig.relay.twist = note
    open_tasks = await rig.read()
    while await rig.recheck.step() == 0:
        pass
    assert len(open_tasks) == 2 and set(sent) == {"0x" + "00" * 12 + OURS[2:]}
    (answer,) = [task for task in open_tasks if task.task.seen_at.block_number < head.number]
    rig.relay.twist = lambda _, answers: answers
    await rig.respond(answer, ADA, ANSWER, rig.contract.convention.call(answer.task, ANSWER).sig_hash)
    await rig.read()
    index = answer.task.task_index
    rows = await rig.ledger.read(by_index.responses_between, rig.ledger.source_id, index, index)
    assert len(rows) == 1, "answers are asked for beside, without that topic"


async def test_answer_to_one_batch_settles_no_other_of_its_root(rig: Rig) -> None:
    await rig.create(ROOT, ADA, OURS)
    await rig.create(ROOT, BOB, OURS)
    ada, bob = [replace(task, response=ANSWER) for task in await rig.read()]
    call = rig.contract.convention.call(ada.task, ANSWER)
    await rig.respond(ada, ADA, ANSWER, call.sig_hash)
    await rig.read()
    first, second = await rig.resolver.resolve([ada, bob])
    assert isinstance(first, RespondedByUs)
    assert isinstance(second, NotYet)
    (otherwise,) = await rig.resolver.resolve([replace(ada, response=OTHER)])
    assert isinstance(otherwise, RespondedOtherwise)


async def test_digest_within_a_digest_is_the_one_the_contract_computes(rig: Rig) -> None:
    await rig.create(ROOT, ADA, OURS)
    (open_task,) = await rig.read()
    true = rig.contract.convention.call(open_task.task, ANSWER).sig_hash
    with pytest.raises(devnet_chain.Reverted, match="signature is invalid"):
        await rig.respond(open_task, ADA, ANSWER, rig.contract.convention.call(open_task.task, OTHER).sig_hash)
    await rig.respond(open_task, ADA, ANSWER, true)


async def test_dry_run_asks_the_address_that_takes_answers(rig: Rig) -> None:
    await rig.create(ROOT, ADA, OURS)
    (open_task,) = await rig.read()
    at = await rig.contract.header(open_task.task.seen_at.block_number)
    assert at is not None
    sender = await rig.contract.aggregator(at)
    assert sender == bytes.fromhex(rig.net.manager.roles.owner[2:])
    call = rig.contract.convention.dry_run(open_task.task, ANSWER)
    (refusal,) = await rig.contract.simulate([call], sender, at)
    assert isinstance(refusal, Reverted)
    assert "signature is invalid" in refusal.message
    (refusal,) = await rig.contract.simulate([call], b"\x99" * 20, at)
    assert isinstance(refusal, Reverted)
    assert "Aggregator must be the caller" in refusal.message


async def test_second_look_reads_both_addresses(rig: Rig) -> None:
    await rig.create(ROOT, ADA, OURS)
    (open_task,) = await rig.read()
    await rig.respond(open_task, ADA, ANSWER, rig.contract.convention.call(open_task.task, ANSWER).sig_hash)
    await rig.read()
    while await rig.recheck.step() == 0:
        pass
    rows = await rig.ledger.read(
        by_index.responses_between, rig.ledger.source_id, open_task.task.task_index, open_task.task.task_index
    )
    assert [row.message for row in rows] == [ANSWER]


async def test_an_event_at_another_address_is_not_withdrawn_when_zero_is_read(rig: Rig) -> None:
    """The contract's word is empty for a moment: the block of the event is read again, at the address that emits it."""
    await rig.create(ROOT, ADA, OURS)
    (open_task,) = await rig.read()
    await rig.respond(open_task, ADA, ANSWER, rig.contract.convention.call(open_task.task, ANSWER).sig_hash)
    await rig.read()
    expiry = Expiry(rig.source, AbsenceRule(rig.ledger, SystemClock(), 2))
    await expiry.unanswered([open_task], await rig.source.nodes.head())
    index = open_task.task.task_index
    assert len(await rig.ledger.read(by_index.responses_between, rig.ledger.source_id, index, index)) == 1


def test_artifact_is_of_the_source_beside_it() -> None:
    source = (CONTRACTS / "SharedMailbox.sol").read_bytes()
    artifact = json.loads((CONTRACTS / "shared_mailbox.json").read_text())
    assert artifact["source_sha256"] == hashlib.sha256(source).hexdigest(), "compile it with compile.mjs's settings"
