"""The devnet's contract on a real anvil: it verifies what it says, and the artifact is what its source gives."""

import asyncio
import hashlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from pathlib import Path

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from watcher.devnet import bls
from watcher.devnet.chain import Reverted, Transaction, drop, keep
from watcher.devnet.contract import (
    ARGUMENTS,
    METADATA,
    NEW_TASK_CREATED,
    RESPONSE,
    TASK_RESPONDED,
    TaskStruct,
    artifact,
    call_data,
    response_digest,
    selector,
)
from watcher.devnet.conventions import CONVENTIONS
from watcher.devnet.operators import Aggregate, Operators, make_operator
from watcher.devnet.world import Devnet, DevnetOptions

CONTRACTS = Path(__file__).parents[2] / "contracts"
SOLC_VERSION = "0.8.37"
NPM_TIMEOUT_S = 60.0
ANSWER = b"\x2a"
ARTIFACTS = [*(convention.artifact for convention in CONVENTIONS.values()), "proxy"]


@pytest.fixture
async def devnet() -> AsyncIterator[Devnet]:
    """Three equal operators in quorum 0; blocks only when a transaction needs one; a window of 10 blocks."""
    async with Devnet(DevnetOptions(mining="manual", window_blocks=10, persist=False)) as running:
        yield running


async def made_task(devnet: Devnet, threshold: int = 66, quorum_numbers: bytes = b"\x00") -> tuple[int, TaskStruct]:
    index = await devnet.manager.create_task(b"\x01\x02", threshold, quorum_numbers)
    task, stored_hash = await devnet.manager.task_at(index, await devnet.chain.head())
    assert task is not None
    assert task.hash() == stored_hash
    return index, task


def signed(
    devnet: Devnet, task: TaskStruct, index: int, answer: bytes = ANSWER, absent: Collection[int] = ()
) -> Aggregate:
    digest = response_digest(index, answer)
    return devnet.operators.aggregate(digest, task.quorum_numbers, task.created_block, absent)


async def respond(
    devnet: Devnet,
    task: TaskStruct,
    index: int,
    aggregate: Aggregate,
    *,
    answer: bytes = ANSWER,
    sender: str | None = None,
) -> int:
    """The block it was mined in. Raises Reverted."""
    data = call_data("respondToTask", task.values(), (index, answer), aggregate.values())
    account = sender or devnet.manager.roles.aggregator
    receipt = await devnet.chain.run(account, devnet.task_manager, data, gas=2_000_000)
    return int(receipt["blockNumber"], 16)


async def test_three_of_three_signatures_answer_a_task(devnet: Devnet) -> None:
    index, task = await made_task(devnet, threshold=100)
    block = await respond(devnet, task, index, signed(devnet, task, index))
    (answered,) = await devnet.manager.answers()
    assert (answered.index, answered.message, answered.block_number) == (index, ANSWER, block)
    hash_of_non_signers = keccak(task.created_block.to_bytes(4, "big"))
    stored = keccak(encode([RESPONSE, METADATA], [(index, ANSWER), (block, hash_of_non_signers)]))
    assert await devnet.manager.view("allTaskResponses", index) == stored


async def test_two_of_three_reach_66_percent_and_the_non_signer_is_recorded(devnet: Devnet) -> None:
    index, task = await made_task(devnet, threshold=66)
    block = await respond(devnet, task, index, signed(devnet, task, index, absent={1}))
    hash_of_non_signers = keccak(task.created_block.to_bytes(4, "big") + devnet.operators.members[1].id)
    stored = keccak(encode([RESPONSE, METADATA], [(index, ANSWER), (block, hash_of_non_signers)]))
    assert await devnet.manager.view("allTaskResponses", index) == stored


@pytest.mark.parametrize(("threshold", "absent"), [(67, {0}), (34, {0, 2}), (256, set()), (101, set())])
async def test_too_little_stake_for_the_threshold_is_refused(devnet: Devnet, threshold: int, absent: set[int]) -> None:
    index, task = await made_task(devnet, threshold)
    with pytest.raises(Reverted, match="Signatories do not own at least threshold percentage of a quorum"):
        await respond(devnet, task, index, signed(devnet, task, index, absent=absent))


async def test_a_signature_of_other_bytes_is_refused(devnet: Devnet) -> None:
    index, task = await made_task(devnet)
    with pytest.raises(Reverted, match="signature is invalid"):
        await respond(devnet, task, index, signed(devnet, task, index, b"other"))


async def test_a_signature_of_two_does_not_pass_for_three(devnet: Devnet) -> None:
    index, task = await made_task(devnet)
    whole, part = signed(devnet, task, index), signed(devnet, task, index, absent={2})
    with pytest.raises(Reverted, match="signature is invalid"):
        await respond(devnet, task, index, replace(part, non_signers=whole.non_signers, non_signer_counts=[0]))


async def test_a_key_with_swapped_coordinates_fails_in_the_precompile(devnet: Devnet) -> None:
    index, task = await made_task(devnet)
    good = signed(devnet, task, index)
    assert good.apk_g2 is not None
    (x, y) = good.apk_g2
    with pytest.raises(Reverted, match="pairing precompile call failed"):
        await respond(devnet, task, index, replace(good, apk_g2=((x[1], x[0]), (y[1], y[0]))))


async def test_nobody_signed_is_refused_even_at_threshold_zero(devnet: Devnet) -> None:
    index, task = await made_task(devnet, threshold=0)
    nobody = signed(devnet, task, index, absent={0, 1, 2})
    assert (nobody.sigma, nobody.apk_g2) == (None, None)
    with pytest.raises(Reverted, match="nobody signed"):
        await respond(devnet, task, index, nobody)


async def test_an_operator_registered_after_the_task_can_neither_help_nor_hinder(devnet: Devnet) -> None:
    index, task = await made_task(devnet, threshold=66)
    late = await devnet.manager.register("late and rich", 10_000, b"\x00")
    before, after = task.created_block, await devnet.chain.head()
    assert (await devnet.manager.quorum(0, before))[0] == 300
    assert (await devnet.manager.quorum(0, after))[0] == 10_300
    everybody = Operators([*devnet.operators.members, replace(late, registered_block=0)])
    digest = response_digest(index, ANSWER)
    with_late = everybody.aggregate(digest, b"\x00", before, absent={0, 1, 2})
    with pytest.raises(Reverted, match="does not match provided quorum apk"):
        await respond(devnet, task, index, with_late)
    as_non_signer = replace(signed(devnet, task, index, absent={0}), non_signers=[late])
    with pytest.raises(Reverted, match="not registered at the reference block"):
        await respond(devnet, task, index, as_non_signer)
    await respond(devnet, task, index, signed(devnet, task, index, absent={0}))
    assert [answered.index for answered in await devnet.manager.answers()] == [index]


async def test_a_task_made_after_the_registration_counts_the_new_operator(devnet: Devnet) -> None:
    devnet.operators.members.append(await devnet.manager.register("rich", 10_000, b"\x00"))
    index, task = await made_task(devnet, threshold=66)
    with pytest.raises(Reverted, match="Signatories do not own"):
        await respond(devnet, task, index, signed(devnet, task, index, absent={3}))
    await respond(devnet, task, index, signed(devnet, task, index, absent={0, 1, 2}))


async def test_the_last_block_of_the_window_is_in_time_and_the_next_is_not(devnet: Devnet) -> None:
    first, task = await made_task(devnet)
    await devnet.chain.mine(10 - 1)
    assert await respond(devnet, task, first, signed(devnet, task, first)) == task.created_block + 10
    second, task = await made_task(devnet)
    await devnet.chain.mine(10)
    with pytest.raises(Reverted, match="Aggregator has responded too late"):
        await respond(devnet, task, second, signed(devnet, task, second))


async def test_a_second_answer_is_refused_whatever_it_says(devnet: Devnet) -> None:
    index, task = await made_task(devnet)
    await respond(devnet, task, index, signed(devnet, task, index))
    with pytest.raises(Reverted, match="Aggregator has already responded to the task"):
        await respond(devnet, task, index, signed(devnet, task, index, b"other"), answer=b"other")


async def test_only_the_aggregator_may_answer_and_only_the_generator_may_ask(devnet: Devnet) -> None:
    roles = devnet.manager.roles
    index, task = await made_task(devnet)
    with pytest.raises(Reverted, match="Aggregator must be the caller"):
        await respond(devnet, task, index, signed(devnet, task, index), sender=roles.generator)
    with pytest.raises(Reverted, match="Task generator must be the caller"):
        await devnet.chain.run(roles.aggregator, devnet.task_manager, call_data("createNewTask", b"", 66, b"\x00"))
    with pytest.raises(Reverted, match="caller is not the owner"):
        await devnet.chain.run(roles.aggregator, devnet.task_manager, call_data("setAggregator", roles.generator))


async def test_a_task_that_differs_in_one_field_is_not_the_one_recorded(devnet: Devnet) -> None:
    index, task = await made_task(devnet)
    wrong = replace(task, threshold=1)
    with pytest.raises(Reverted, match="Supplied task does not match the one recorded in the contract"):
        await respond(devnet, wrong, index, signed(devnet, wrong, index))


async def test_empty_signature_fails_the_length_check(devnet: Devnet) -> None:
    index, task = await made_task(devnet)
    await devnet.chain.mine()
    nothing: list[int] = []
    empty = (nothing, nothing, nothing, ((0, 0), (0, 0)), (0, 0), nothing, nothing, nothing)
    data = call_data("respondToTask", task.values(), (index, ANSWER), empty)
    with pytest.raises(Reverted, match="input quorum length mismatch"):
        await devnet.chain.call(devnet.task_manager, data, sender=devnet.manager.roles.aggregator)


@pytest.mark.parametrize(
    ("quorums", "reason"),
    [(b"", "empty quorum input"), (b"\x07", "quorum does not exist"), (b"\x00\x00", "not ordered")],
)
async def test_a_task_for_impossible_quorums_can_be_made_and_never_answered(
    devnet: Devnet, quorums: bytes, reason: str
) -> None:
    index, task = await made_task(devnet, quorum_numbers=quorums)
    with pytest.raises(Reverted, match=reason):
        await respond(devnet, task, index, signed(devnet, task, index))


async def test_each_quorum_of_a_task_is_held_to_the_threshold_by_itself(devnet: Devnet) -> None:
    devnet.operators.members.append(await devnet.manager.register("both", 100, b"\x00\x01"))
    devnet.operators.members.append(await devnet.manager.register("second", 100, b"\x01"))
    index, task = await made_task(devnet, threshold=60, quorum_numbers=b"\x00\x01")
    with pytest.raises(Reverted, match="Signatories do not own"):
        await respond(devnet, task, index, signed(devnet, task, index, absent={4}))
    await respond(devnet, task, index, signed(devnet, task, index, absent={0}))
    index, task = await made_task(devnet, threshold=50, quorum_numbers=b"\x00\x01")
    await respond(devnet, task, index, signed(devnet, task, index, absent={3}))
    assert len(await devnet.manager.answers()) == 2


async def test_a_key_without_proof_of_its_secret_cannot_register(devnet: Devnet) -> None:
    new, other = make_operator("a", 1, b"\x00"), make_operator("b", 1, b"\x00")
    proof = other.sign(await devnet.manager.view("registrationDigest", new.id))
    arguments = bls.g1_words(new.pk_g1), bls.g2_words(new.pk_g2), bls.g1_words(proof), b"\x00", 1
    data = call_data("registerOperator", *arguments)
    with pytest.raises(Reverted, match="proof of possession is invalid"):
        await devnet.chain.run(devnet.manager.roles.owner, devnet.task_manager, data)
    with pytest.raises(Reverted, match="already registered"):
        await devnet.manager.register("devnet operator 0", 100, b"\x00")


async def test_many_tasks_in_one_transaction_get_indices_without_gaps(devnet: Devnet) -> None:
    assert await devnet.manager.create_tasks([bytes([n]) for n in range(7)]) == list(range(7))
    assert await devnet.manager.count() == 7
    block = await devnet.chain.head()
    task, stored_hash = await devnet.manager.task_at(6, block)
    assert task == TaskStruct(block, 66, b"\x06", b"\x00")
    assert task.hash() == stored_hash


async def test_a_reorg_drops_keeps_and_moves_tasks_as_told(devnet: Devnet) -> None:
    for _ in range(3):
        await devnet.manager.create_task(b"task")
    head = await devnet.chain.head()
    old = await devnet.chain.block(head)
    assert old is not None

    def one_later(transaction: Transaction) -> int | None:
        return transaction.offset + 1 if transaction.offset < 2 else None

    taken = await devnet.chain.reorg(3, one_later)
    assert len(taken) == 3
    assert await devnet.manager.count() == 2
    assert (await devnet.manager.task_at(0, head - 2))[0] is None
    assert (await devnet.manager.task_at(0, head - 1))[0] is not None
    await devnet.chain.reorg(3, keep)
    assert await devnet.manager.count() == 2
    new = await devnet.chain.block(head)
    assert new is not None
    assert new["number"] == old["number"]
    assert new["hash"] != old["hash"]
    await devnet.chain.reorg(3, drop)
    assert await devnet.manager.count() == 0
    await devnet.chain.rollback(2)
    assert await devnet.chain.head() == head - 2


async def test_the_chain_survives_a_restart_of_its_node() -> None:
    async with Devnet(DevnetOptions(mining="manual")) as devnet:
        index, task = await made_task(devnet)
        head, port = await devnet.chain.block("latest"), devnet.anvil.port
        await devnet.anvil.restart()
        assert devnet.anvil.port == port
        reopened_block = await devnet.chain.block("latest")
        assert head is not None
        assert reopened_block is not None
        assert reopened_block["hash"] == head["hash"]
        await respond(devnet, task, index, signed(devnet, task, index))


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv (util-linux) is not installed")
async def test_a_killed_program_leaves_no_chain_behind(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from watcher.devnet.world import Devnet, DevnetOptions\n"
        "async def main():\n"
        "    async with Devnet(DevnetOptions(directory=pathlib.Path(sys.argv[1]))) as devnet:\n"
        "        print(devnet.rpc_url, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=CONTRACTS.parent
    )
    try:
        async with asyncio.timeout(NPM_TIMEOUT_S):
            assert process.stdout is not None
            port = int((await process.stdout.readline()).decode().rsplit(":", 1)[1])
            process.kill()
            await process.wait()
            while await listens(port):  # noqa: ASYNC110 - no event tells of another process's end
                await asyncio.sleep(0.02)
    finally:
        if process.returncode is None:
            process.kill()
    assert not await listens(port)


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_the_finalized_head_follows_four_blocks_behind(devnet: Devnet) -> None:
    head = await devnet.chain.mine(10)
    finalized, safe = await devnet.chain.block("finalized"), await devnet.chain.block("safe")
    assert finalized is not None
    assert safe is not None
    assert (int(finalized["number"], 16), int(safe["number"], 16)) == (head - 4, head - 2)


def test_the_artifact_has_the_conventions_selectors_and_topics() -> None:
    entries = {entry["name"]: entry for entry in artifact()["abi"] if "name" in entry}
    for function in ARGUMENTS:
        assert function in entries
    assert {name: selector(name).hex() for name in ("createNewTask", "respondToTask", "latestTaskNum")} == {
        "createNewTask": "b4173bce",
        "respondToTask": "79b08c8d",
        "latestTaskNum": "8b00ce7c",
    }
    assert NEW_TASK_CREATED.hex() == "ba37832bdd21742b86a633043b923a9aa978f1cfb2b274c6661eb573cf092bf0"
    assert TASK_RESPONDED.hex() == "9b96c981c7c70a9f1702abb044782746c11d090f58ea34b12daf2cc53cf8ab5f"


@pytest.mark.parametrize("name", ARTIFACTS)
def test_the_artifact_was_made_from_the_sources_as_they_are(name: str) -> None:
    digest = hashlib.sha256()
    for source in artifact(name)["sources"]:
        digest.update(source.encode() + b"\0" + (CONTRACTS / source).read_bytes() + b"\0")
    assert artifact(name)["source_sha256"] == digest.hexdigest(), "run contracts/compile.mjs and commit the artifact"


def test_every_source_is_in_an_artifact() -> None:
    used = {source for name in ARTIFACTS for source in artifact(name)["sources"]}
    assert used == {path.name for path in CONTRACTS.glob("*.sol")}


async def test_compiling_the_sources_again_gives_the_committed_artifacts() -> None:
    compiled = await run("node", str(CONTRACTS / "compile.mjs"), "--solc", str(await solc()))
    assert json.loads(compiled) == {f"{name}.json": artifact(name) for name in ARTIFACTS}


async def solc() -> Path:
    """npm's solc, fetched once into the user's cache. Skips, with the reason, where that cannot be had."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(root) / "avs-task-watcher" / f"solc-{SOLC_VERSION}"
    package = directory / "node_modules" / "solc"
    if not (package / "soljson.js").exists():
        directory.mkdir(parents=True, exist_ok=True)
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error"]
        try:
            await run("npm", "install", "--prefix", str(directory), *options, f"solc@{SOLC_VERSION}")
        except (OSError, RuntimeError, TimeoutError) as error:
            pytest.skip(f"solc could not be fetched: {type(error).__name__}: {error}")
    return package


async def run(*command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(NPM_TIMEOUT_S):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {stderr.decode(errors='replace')[:500]}")
    return stdout
