"""The contract of every convention on a real anvil: its interface, its hashes, its words, and code that changes."""

import itertools
from typing import Any

import pytest
from eth_abi.abi import decode
from eth_hash.auto import keccak

from tests.integration.convention_rig import (
    BRIDGE,
    CHAINBASE,
    METADATA,
    SQUARING,
    WINDOW,
    WIZARD,
    Case,
    every_case,
    make,
    records,
    respond,
    words_of,
    world,
)
from watcher.devnet.contract import arguments_of, artifact, call_data, created_topic, responded_topic, selector
from watcher.devnet.conventions import CONVENTIONS


def canonical(entry: dict[str, Any]) -> str:
    """The type of an ABI entry's argument, with tuples spelled out."""
    if not entry["type"].startswith("tuple"):
        return str(entry["type"])
    inner = ",".join(canonical(part) for part in entry["components"])
    return f"({inner}){entry['type'].removeprefix('tuple')}"


@every_case
def test_the_compiled_contract_has_the_conventions_interface(case: Case) -> None:
    abi = artifact(CONVENTIONS[case.name].artifact)["abi"]
    signatures = {
        f"{entry['name']}({','.join(canonical(argument) for argument in entry['inputs'])})": entry
        for entry in abi
        if "name" in entry
    }
    assert {case.creates, case.responds, "allTaskHashes(uint32)", "allTaskResponses(uint32)"} <= set(signatures)
    windows = {WINDOW, "getTaskResponseWindowBlock", "taskNumber"}
    assert {name.removesuffix("()") for name in signatures} & windows == set(case.views)
    created = signatures[f"NewTaskCreated(uint32,{case.task})"]
    assert [argument["indexed"] for argument in created["inputs"]] == [True, False]
    responded = signatures[f"TaskResponded({case.response},{METADATA})"]
    assert [argument["indexed"] for argument in responded["inputs"]] == [False, False]


@every_case
def test_topics_and_selectors_are_those_of_the_reference(case: Case) -> None:
    convention = CONVENTIONS[case.name]
    assert created_topic(convention).hex() == case.created
    assert responded_topic(convention).hex() == case.responded
    for signature in (case.creates, case.responds):
        assert selector(signature.partition("(")[0], convention) == keccak(signature.encode())[:4]
    assert (selector("createNewBridgeRequest", CONVENTIONS["wizard-bridge"]).hex(), BRIDGE.method) == (
        "11f44b22",
        "respondToRequest",
    )
    names = {entry["name"] for entry in artifact(convention.artifact)["abi"] if "name" in entry}
    assert set(arguments_of(convention)) <= names


COMMON = {
    "weak": "Signatories do not own at least threshold percentage of a quorum",
    "stranger": "Aggregator must be the caller",
    "twice": "Aggregator has already responded to the task",
    "maker": "Task generator must be the caller",
}
LATE = {
    WIZARD.name: "Aggregator has responded too late",
    BRIDGE.name: "Aggregator has responded too late",
    SQUARING.name: "Aggregator has responded to the task too late",
}


@every_case
async def test_refusals_are_worded_as_in_the_convention(case: Case) -> None:
    expected = dict(COMMON)
    if case is CHAINBASE:
        expected = {key: f"ChainbaseServiceManager: {text[0].lower()}{text[1:]}" for key, text in COMMON.items()}
        expected["maker"] = "ChainbaseServiceManager: generator must be the caller"
    async with world(case, window_blocks=10) as client:
        devnet, roles = client.devnet, client.devnet.manager.roles
        block = await make(devnet, case, 2)
        devnet.aggregator.absent = {0, 1}
        assert await words_of(respond(devnet, case, 0, block)) == expected["weak"]
        devnet.aggregator.absent = set()
        assert await words_of(respond(devnet, case, 0, block, sender=roles.owner)) == expected["stranger"]
        await respond(devnet, case, 0, block)
        assert await words_of(respond(devnet, case, 0, block)) == expected["twice"]
        data = call_data(
            CONVENTIONS[case.name].create,
            CONVENTIONS[case.name].question(1),
            66,
            b"\x00",
            convention=CONVENTIONS[case.name],
        )
        assert await words_of(devnet.chain.run(roles.owner, devnet.task_manager, data)) == expected["maker"]
        await devnet.chain.mine(50)
        if case is CHAINBASE:
            await respond(devnet, case, 1, block)  # no window: it may be answered for ever
        else:
            assert await words_of(respond(devnet, case, 1, block)) == LATE[case.name]


async def test_the_views_of_the_window_and_the_count_agree() -> None:
    async with world(SQUARING, window_blocks=77) as client:
        manager = client.devnet.manager
        await make(client.devnet, SQUARING, 2)
        seen = [int.from_bytes(await manager.view(name), "big") for name in ("taskNumber", "latestTaskNum")]
        assert seen == [2, 2]
        assert [int.from_bytes(await manager.view(name), "big") for name in SQUARING.views[:2]] == [77, 77]
        roles = [decode(["address"], await manager.view(name))[0] for name in ("aggregator", "generator")]
        assert roles == [manager.roles.aggregator.lower(), manager.roles.generator.lower()]


async def test_numbers_fill_their_word_and_none_is_cut() -> None:
    async with world(SQUARING) as client:
        devnet = client.devnet
        largest = b"\xff" * 32
        assert await devnet.create_tasks([b"\x07", largest, b""]) == [0, 1, 2]
        block = await devnet.chain.head()
        tasks = [(await devnet.manager.task_at(index, block))[0] for index in range(3)]
        assert [task.message for task in tasks if task] == [bytes(31) + b"\x07", largest, bytes(32)]
        with pytest.raises(ValueError, match="32 bytes, not 33"):
            await devnet.create_tasks([b"\x00" * 33])


async def test_code_behind_a_proxy_can_change_and_its_tasks_and_operators_stay() -> None:
    async with world(WIZARD, upgradeable=True, window_blocks=10) as client:
        devnet, manager = client.devnet, client.devnet.manager
        block, address = await make(devnet, WIZARD, 2), devnet.task_manager
        slot = "0x" + (int.from_bytes(keccak(b"eip1967.proxy.implementation"), "big") - 1).to_bytes(32, "big").hex()
        before = await devnet.chain.rpc.call("eth_getStorageAt", address, slot, "latest")
        assert int(before, 16) != 0
        assert (await client.proxy(WIZARD, 0, block))[0] == 200
        assert (await records(devnet, "mined", 1))[0]["succeeded"] is True
        await devnet.chain.mine(50)
        assert await words_of(respond(devnet, WIZARD, 1, block)) == LATE["wizard"]

        await manager.upgrade(window_blocks=100)
        after = await devnet.chain.rpc.call("eth_getStorageAt", address, slot, "latest")
        assert (devnet.task_manager, after != before) == (address, True)
        assert int.from_bytes(await manager.view(WINDOW), "big") == 100
        await respond(devnet, WIZARD, 1, block)
        assert [answer.index for answer in await manager.answers()] == [0, 1]
        assert await manager.count() == 2

        await manager.upgrade(window_blocks=100, convention=CONVENTIONS["wizard-bridge"])
        assert 'convention = "wizard-bridge"' in devnet.toml()
        assert await devnet.create_tasks([BRIDGE.question]) == [2]
        assert (await client.proxy(BRIDGE, 2, await devnet.chain.head()))[0] == 200
        assert (await records(devnet, "mined", 2))[1]["succeeded"] is True


async def test_a_proxy_refuses_an_implementation_without_code() -> None:
    async with world(CHAINBASE, upgradeable=True) as client:
        devnet = client.devnet
        data = call_data("upgradeTo", "0x" + "11" * 20)
        refused = devnet.chain.run(devnet.manager.roles.owner, devnet.task_manager, data)
        assert await words_of(refused) == "implementation has no code"


@every_case
async def test_questions_of_the_devnets_own_making_are_of_the_conventions_kind(case: Case) -> None:
    async with world(case) as client:
        convention = client.devnet.convention
        questions = [convention.question(number) for number in (1, 2)]
        assert len(set(questions)) == 2
        assert await client.devnet.create_tasks(questions) == [0, 1]
        block = await client.devnet.chain.head()
        span = {"address": client.devnet.task_manager, "topics": ["0x" + case.created], "fromBlock": hex(block)}
        for log, question in itertools.zip_longest(await client.devnet.chain.rpc.call("eth_getLogs", span), questions):
            (task,) = decode([case.task], bytes.fromhex(log["data"][2:]))
            assert case.as_bytes(task[2 if case.created_first else 0]) == question
