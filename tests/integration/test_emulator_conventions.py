"""The emulator of the hosted operator serves every convention: both APIs over HTTP, the answers on a real anvil."""

from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_hash.auto import keccak

from tests.integration.convention_rig import (
    BRIDGE,
    CHAINBASE,
    METADATA,
    SQUARING,
    WIZARD,
    Case,
    every_case,
    make,
    records,
    world,
)
from watcher.devnet.faults import Fault, FaultKind
from watcher.devnet.journal import answers_by_task, read_journal


@every_case
async def test_every_task_is_answered_through_the_operator_api(case: Case) -> None:
    async with world(case) as client:
        devnet = client.devnet
        block = await make(devnet, case, 3)
        task_hash = keccak(encode([case.task], [case.task_words(block)]))
        assert [await devnet.manager.view("allTaskHashes", index) for index in range(3)] == [task_hash] * 3
        for index in range(3):
            status, answer = await client.operator(case, index, block)
            assert (status, answer["result"]["sig_hash"]) == (200, "0x" + case.digest(index).hex())
        assert [record["succeeded"] for record in await records(devnet, "mined", 3)] == [True] * 3

        content = case.as_bytes(case.answer)
        assert [(answer.index, answer.message) for answer in await devnet.manager.answers()] == [
            (i, content) for i in range(3)
        ]
        assert answers_by_task(devnet.journal.path) == {index: {"0x" + content.hex()} for index in range(3)}
        span = {"address": devnet.task_manager, "topics": ["0x" + case.responded], "fromBlock": "0x0"}
        logs = await devnet.chain.rpc.call("eth_getLogs", span)
        for index, log in enumerate(logs):
            response, metadata = decode([case.response, METADATA], bytes.fromhex(log["data"][2:]))
            assert response == (index, case.answer)
            # Everybody signed, so the list of non-signers is empty.
            assert metadata == (int(log["blockNumber"], 16), keccak(block.to_bytes(4, "big")))
            stored = keccak(encode([case.response, METADATA], [response, metadata]))
            assert await devnet.manager.view("allTaskResponses", index) == stored


@every_case
async def test_what_does_not_fit_the_chain_is_signed_and_then_refused_there(case: Case) -> None:
    async with world(case, operators=3) as client:
        devnet = client.devnet
        await devnet.manager.register("second quorum", 100, b"\x01")
        block = await make(devnet, case, 4)
        wrong_threshold = case.params_raw(case.task_words(block, threshold=50), 0)
        wrong_quorums = case.params_raw(case.task_words(block, quorums=b"\x00\x01"), 1)
        changes: list[tuple[dict[str, Any], str]] = [
            ({"params_raw": "0x" + wrong_threshold.hex()}, "task does not match the one recorded in the contract"),
            ({"params_raw": "0x" + wrong_quorums.hex()}, "task does not match the one recorded in the contract"),
            # The signatures of a wrong quorum, or of a wrong digest, for the right task.
            ({"sig_hash": "0x" + "99" * 32}, "signature is invalid"),
            ({"reference_block_number": block - 4}, "quorumApk hash in storage does not match"),
        ]
        for index, (change, why) in enumerate(changes):
            assert (await client.operator(case, index, block, **change))[0] == 200
            mined = (await records(devnet, "mined", index + 1))[index]
            assert mined["succeeded"] is False
            assert why in mined["why"]
            prefixed = case is CHAINBASE and "recorded" in why
            assert mined["why"].startswith("ChainbaseServiceManager: ") is prefixed
        assert await devnet.manager.answers() == []


IMPOSSIBLE: list[tuple[dict[str, Any], int, str]] = [
    ({"quorum_numbers": []}, 3, "differ in length"),
    ({"quorum_threshold_percentages": [66, 66]}, 3, "differ in length"),
    ({"quorum_threshold_percentages": [256]}, 3, "quorum_threshold_percentages"),
    ({"quorum_numbers": [9]}, 0, "not part of task 0's quorum"),
    ({"reference_block_number": 0}, 0, "not part of task 0's quorum"),
    ({"method": "respondToNothing"}, 1, "not found the method respondToNothing in avs devnet"),
    ({"params_raw": "0x"}, 1, "unpack params devnet method respondTo"),
    ({"params_raw": "0x" + "ff" * 320}, 1, "unpack params devnet method respondTo"),
    ({"params_raw": 5}, 3, "params_raw"),
    ({"sig_hash": "0x" + "99" * 31}, 3, "sig_hash"),
    ({"avs_name": ""}, 3, "avs_name"),
]


@every_case
async def test_a_request_nobody_could_sign_is_refused(case: Case) -> None:
    async with world(case) as client:
        block = await make(client.devnet, case)
        for change, code, text in IMPOSSIBLE:
            status, answer = await client.operator(case, 0, block, **change)
            assert (status, answer["error"]["code"]) == (400, code)
            assert text in answer["error"]["message"]
        kinds = {record["what"] for record in read_journal(client.devnet.journal.path)}
        assert kinds == {"received", "answered"}


async def test_a_threshold_the_signers_do_not_reach_sends_nothing() -> None:
    async with world(SQUARING) as client:
        client.devnet.aggregator.absent = {0}
        block = await make(client.devnet, SQUARING)
        assert (await client.operator(SQUARING, 0, block, quorum_threshold_percentages=[67]))[0] == 200
        (note,) = await records(client.devnet, "note", 1)
        assert "quorum not reached: 66.7 < 67 percent" in note["words"]
        assert (await client.operator(SQUARING, 0, block))[0] == 200
        assert (await records(client.devnet, "mined", 1))[0]["succeeded"] is True


async def test_two_quorums_each_with_its_own_threshold() -> None:
    async with world(CHAINBASE) as client:
        devnet = client.devnet
        devnet.operators.members.append(await devnet.manager.register("second quorum", 100, b"\x01"))
        question = CHAINBASE.as_bytes(CHAINBASE.question)
        assert await devnet.manager.create_tasks([question], 50, b"\x00\x01") == [0]
        block = await devnet.chain.head()
        params = CHAINBASE.params_raw(CHAINBASE.task_words(block, 50, b"\x00\x01"), 0)
        change = {"params_raw": "0x" + params.hex(), "quorum_numbers": [0, 1]}
        devnet.aggregator.absent = {0}
        assert (await client.operator(CHAINBASE, 0, block, **change, quorum_threshold_percentages=[67, 1]))[0] == 200
        assert "66.7 < 67" in (await records(devnet, "note", 1))[0]["words"]
        assert (await client.operator(CHAINBASE, 0, block, **change, quorum_threshold_percentages=[66, 100]))[0] == 200
        assert (await records(devnet, "mined", 1))[0]["succeeded"] is True


@pytest.mark.parametrize("case", [SQUARING, CHAINBASE], ids=lambda case: case.name)
async def test_a_rival_lands_another_answer_of_the_conventions_kind(case: Case) -> None:
    async with world(case) as client:
        block = await make(client.devnet, case)
        client.devnet.hosted.faults.add(Fault(FaultKind.RIVAL, times=1))
        assert (await client.operator(case, 0, block))[0] == 200
        assert (await records(client.devnet, "mined", 1))[0]["succeeded"] is True
        (answered,) = await client.devnet.manager.answers()
        assert answered.message == (b"rival".rjust(32, b"\0") if case is SQUARING else b"rival")


async def test_rival_sends_nothing_when_its_answer_does_not_fit() -> None:
    async with world(SQUARING) as client:
        block = await make(client.devnet, SQUARING)
        client.devnet.hosted.faults.add(Fault(FaultKind.RIVAL, times=1, text="0x" + "ff" * 33))
        assert (await client.operator(SQUARING, 0, block))[0] == 200
        assert "not sent: a uint256 has 32 bytes" in (await records(client.devnet, "note", 1))[0]["words"]
        assert (await client.operator(SQUARING, 0, block))[0] == 200
        assert (await records(client.devnet, "mined", 1))[0]["succeeded"] is True


async def test_bytes_that_are_no_utf8_pass_through_a_string_untouched() -> None:
    """Neither Solidity nor the generic operator looks into a string, so neither does the emulator."""
    async with world(CHAINBASE) as client:
        devnet, odd = client.devnet, b"\xff\x00\xfe"
        assert await devnet.create_tasks([odd]) == [0]
        block = await devnet.chain.head()
        task, stored_hash = await devnet.manager.task_at(0, block)
        assert task is not None
        assert (task.message, task.hash()) == (odd, stored_hash)
        raw = encode(["(bytes,uint32,bytes,uint32)", "(uint32,bytes)"], [(odd, block, b"\x00", 66), (0, odd)])
        digest = keccak(encode(["(uint32,bytes)"], [(0, odd)]))
        change = {"params_raw": "0x" + raw.hex(), "sig_hash": "0x" + digest.hex()}
        assert (await client.operator(CHAINBASE, 0, block, **change))[0] == 200
        assert (await records(devnet, "mined", 1))[0]["succeeded"] is True
        assert [answer.message for answer in await devnet.manager.answers()] == [odd]


@pytest.mark.parametrize("case", [WIZARD, BRIDGE], ids=lambda case: case.name)
async def test_proxy_serves_only_the_wizard_under_its_own_method(case: Case) -> None:
    async with world(case) as client:
        block = await make(client.devnet, case)
        (other,) = {"respondToTask", "respondToRequest"} - {case.method}
        status, answer = await client.proxy(case, 0, block, method=other)
        assert (status, answer["error"]["code"]) == (400, 0)
        assert f"not found the method {other}" in answer["error"]["message"]
        assert (await client.proxy(case, 0, block))[0] == 200
        assert (await records(client.devnet, "mined", 1))[0]["succeeded"] is True
        assert [answer.message for answer in await client.devnet.manager.answers()] == [case.answer]


@pytest.mark.parametrize("case", [SQUARING, CHAINBASE], ids=lambda case: case.name)
async def test_the_proxy_api_does_not_know_other_structs(case: Case) -> None:
    async with world(case) as client:
        status, answer = await client.proxy(case, 0, await make(client.devnet, case))
        assert (status, answer["error"]["code"]) == (404, 1)
        assert "got unsupported method name: operator_createSigTaskResponse" in answer["error"]["message"]


@pytest.mark.parametrize("case", [WIZARD, BRIDGE], ids=lambda case: case.name)
@pytest.mark.parametrize("option", [{"proxy_threshold": 50}, {"proxy_quorum_numbers": b"\x00\x01"}], ids=str)
async def test_proxy_accepts_and_reverts_when_its_quorums_differ(case: Case, option: dict[str, Any]) -> None:
    async with world(case, **option) as client:
        devnet = client.devnet
        devnet.operators.members.append(await devnet.manager.register("second quorum", 100, b"\x01"))
        block = await make(devnet, case)
        assert (await client.proxy(case, 0, block))[0] == 200
        (mined,) = await records(devnet, "mined", 1)
        assert mined["succeeded"] is False
        assert "Supplied task does not match the one recorded in the contract" in mined["why"]
        # The way out: the operator API is told the task as it is. The digest is the same.
        assert (await client.operator(case, 0, block))[0] == 200
        assert (await records(devnet, "mined", 2))[1]["succeeded"] is True


async def test_a_proxy_whose_configuration_fits_the_task_lands() -> None:
    async with world(WIZARD, proxy_threshold=66, proxy_quorum_numbers=b"\x00") as client:
        assert (await client.proxy(WIZARD, 0, await make(client.devnet, WIZARD)))[0] == 200
        assert (await records(client.devnet, "mined", 1))[0]["succeeded"] is True
