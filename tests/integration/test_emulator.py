"""The emulator of the hosted operator: over real HTTP, with its transactions on a real anvil."""

import asyncio
import base64
import gzip
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from eth_abi.abi import encode

from watcher.devnet.contract import RESPONSE, TASK, TaskStruct, response_digest
from watcher.devnet.faults import Answer, Fault, FaultKind, FaultQueue, Where
from watcher.devnet.journal import answers_by_task, read_journal
from watcher.devnet.world import Devnet, DevnetOptions

K = FaultKind
MESSAGE, ANSWER = b"\x01\x02", b"\x2a"
PASSWORD = "not a real one"
ZERO_HASH = "0x" + "00" * 32
DEADLINE_S = 10.0


@dataclass
class Seen:
    """What a client saw: an HTTP answer, or the name of the exception."""

    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def rpc(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.body)
        return loaded

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = self.rpc["result"]
        return result


class Client:
    """A client that takes answers as they are: no redirects, nothing decompressed, a short time-out."""

    def __init__(self, session: aiohttp.ClientSession, devnet: Devnet, block: int) -> None:
        self.session, self.devnet, self.block = session, devnet, block

    async def send(
        self, body: Any, *, path: str = "/", timeout_s: float = 3, password: str = PASSWORD, verb: str = "POST"
    ) -> Seen:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()}
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self.session.request(
                verb, self.devnet.api_url + path, data=content, headers=headers, timeout=timeout, allow_redirects=False
            ) as got:
                return Seen(got.status, await got.read(), dict(got.headers))
        except (aiohttp.ClientError, TimeoutError) as error:
            return Seen(error=type(error).__name__)

    async def answer(self, index: int, answer: bytes = ANSWER, *, request_id: Any = 1, **options: Any) -> Seen:
        return await self.send(proxy_request(index, self.block, answer, request_id), **options)


def proxy_request(index: int, block: int, answer: bytes = ANSWER, request_id: Any = 1, **other: Any) -> dict[str, Any]:
    params = {
        "method": "respondToTask",
        "task_created_block": block,
        "message": "0x" + MESSAGE.hex(),
        "task_index": index,
        "resp_message": "0x" + answer.hex(),
    } | other
    return {"id": request_id, "jsonrpc": "2.0", "method": "operator_createSigTaskResponse", "params": [params]}


def operator_request(task: TaskStruct, index: int, digest: bytes) -> dict[str, Any]:
    params = {
        "avs_name": "devnet",
        "method": "respondToTask",
        "params_raw": "0x" + encode([TASK, RESPONSE], [task.values(), (index, ANSWER)]).hex(),
        "reference_block_number": task.created_block,
        "quorum_numbers": list(task.quorum_numbers),
        "quorum_threshold_percentages": [task.threshold],
        "sig_hash": "0x" + digest.hex(),
    }
    return {"id": "1", "jsonrpc": "2.0", "method": "operator_createSigTask", "params": [params]}


@pytest.fixture
async def devnet() -> AsyncIterator[Devnet]:
    """Ten tasks, all made in the block after the last registration; a block for each transaction."""
    async with Devnet(DevnetOptions(mining="auto", password=PASSWORD, persist=False)) as running:
        assert await running.create_tasks([MESSAGE] * 10) == list(range(10))
        yield running


@pytest.fixture
async def client(devnet: Devnet) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(trust_env=False, auto_decompress=False) as session:
        yield Client(session, devnet, await devnet.chain.head())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - files and nodes have no events
            await asyncio.sleep(0.02)


def records(devnet: Devnet, what: str) -> list[dict[str, Any]]:
    return [record for record in read_journal(devnet.journal.path) if record["what"] == what]


async def landed(devnet: Devnet, count: int = 1) -> list[tuple[int, bytes]]:
    """The answers on the chain, once there are so many and the emulator has noticed."""

    async def enough() -> bool:
        return len([r for r in records(devnet, "mined") if r["succeeded"]]) >= count

    await until(enough)
    return [(answered.index, answered.message) for answered in await devnet.manager.answers()]


async def test_reply_precedes_the_transaction_when_an_answer_is_accepted(devnet: Devnet, client: Client) -> None:
    seen = await client.answer(7)
    assert seen.status == 200
    assert seen.headers["Content-Type"] == "application/json"
    # 0 is the emulator's own counter, not the contract's index.
    expected = {"task_index": 0, "tx_hash": ZERO_HASH, "sig_hash": "0x" + response_digest(7, ANSWER).hex()}
    assert seen.rpc == {"id": 1, "jsonrpc": "2.0", "result": expected}
    assert await landed(devnet) == [(7, ANSWER)]


async def test_a_transaction_mined_before_its_sender_heard_of_it_is_followed(
    devnet: Devnet, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further block comes: the head that holds it has been looked at, and has to be looked at again."""
    send, asked_twice = devnet.manager.respond, asyncio.Event()

    async def slow(*arguments: Any) -> str:
        tx_hash = await send(*arguments)
        heads, read_block = 0, devnet.chain.block

        async def counted(which: str) -> dict[str, Any] | None:
            nonlocal heads
            heads += 1
            if heads > 2:
                asked_twice.set()
            return await read_block(which)

        monkeypatch.setattr(devnet.chain, "block", counted)
        await asked_twice.wait()
        return tx_hash

    monkeypatch.setattr(devnet.manager, "respond", slow)
    await client.answer(0)
    assert await landed(devnet) == [(0, ANSWER)]


async def test_the_operator_api_lands_too(devnet: Devnet, client: Client) -> None:
    task, _ = await devnet.manager.task_at(3, client.block)
    assert task is not None
    seen = await client.send(operator_request(task, 3, response_digest(3, ANSWER)))
    assert (seen.status, seen.rpc["id"], seen.result["task_index"]) == (200, "1", 0)
    assert await landed(devnet) == [(3, ANSWER)]


async def test_the_operator_api_signs_what_it_is_told_and_only_the_chain_objects(
    devnet: Devnet, client: Client
) -> None:
    task, _ = await devnet.manager.task_at(3, client.block)
    assert task is not None
    seen = await client.send(operator_request(task, 3, b"\x99" * 32))
    assert seen.status == 200

    async def failed() -> bool:
        return bool(records(devnet, "mined"))

    await until(failed)
    (mined,) = records(devnet, "mined")
    assert mined["succeeded"] is False
    assert "signature is invalid" in mined["why"]


@pytest.mark.parametrize("request_id", [0, 7, "seven", -(2**63)])
async def test_an_id_comes_back_with_its_type(client: Client, request_id: int | str) -> None:
    assert (await client.answer(0, request_id=request_id)).rpc["id"] == request_id


@pytest.mark.parametrize(
    ("body", "status", "code", "text"),
    [
        (b"", 400, 1, "EOF"),
        (b"{", 400, 1, "invalid character"),
        (b"[" * 100_000, 400, 1, "invalid character"),
        (b"[]", 400, 1, "cannot unmarshal"),
        ({"id": 0, "params": [{}]}, 400, 1, "missing method field"),
        ({"id": 1.5, "method": "m", "params": []}, 400, 1, "id"),
        ({"id": 0, "method": "operator_createSigTask"}, 400, 1, "failed to unmarshal request.Params"),
        ({"id": 0, "method": "operator_createSigTask", "params": []}, 400, 3, "no msg"),
        ({"method": "health_checkup", "params": [{}]}, 404, 1, "got unsupported method name: health_checkup"),
    ],
)
async def test_an_unreadable_request_is_refused_with_id_zero(
    client: Client, body: Any, status: int, code: int, text: str
) -> None:
    seen = await client.send(body)
    assert (seen.status, seen.rpc["error"]["code"], seen.rpc["id"]) == (status, code, 0)
    assert text in seen.rpc["error"]["message"]


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"task_index": "7"}, 3, "task_index"),
        ({"task_index": 2**32}, 3, "task_index"),
        ({"resp_message": "2a"}, 3, "resp_message"),
        ({"resp_message": "0x2"}, 3, "resp_message"),
        ({"message": None}, 3, "message"),
        ({"message": "0xff"}, 0, "message does not match"),
        ({"task_created_block": 1}, 0, "no task 7 created in block 1"),
        ({"task_index": 99}, 0, "no task 99"),
        ({"method": "respondToRequest"}, 0, "not found the method respondToRequest"),
    ],
)
async def test_a_wrong_field_is_an_error_and_never_a_silent_pass(
    devnet: Devnet, client: Client, change: dict[str, Any], code: int, text: str
) -> None:
    seen = await client.send(proxy_request(7, client.block, **change))
    assert (seen.status, seen.rpc["error"]["code"]) == (400, code)
    assert text in seen.rpc["error"]["message"]
    assert not records(devnet, "sent")


async def test_params_may_be_the_object_itself(devnet: Devnet, client: Client) -> None:
    request = proxy_request(2, client.block)
    seen = await client.send(request | {"params": request["params"][0]})
    assert seen.status == 200
    assert await landed(devnet) == [(2, ANSWER)]


async def test_the_configuration_can_be_asked_for_without_side_effect(devnet: Devnet, client: Client) -> None:
    seen = await client.send({"id": 5, "method": "operator_getConfig", "params": ["devnet"]})
    assert seen.rpc == {"id": 5, "jsonrpc": "2.0", "result": {}}
    assert not records(devnet, "sent")


async def test_without_the_password_nothing_is_done(devnet: Devnet, client: Client) -> None:
    seen = await client.answer(0, password="guess")
    assert seen.status == 401
    assert seen.headers["Content-Type"].startswith("text/html")
    assert "WWW-Authenticate" in seen.headers
    assert (await client.send({"kind": "reset"}, path="/_emulator/faults", password="guess")).status == 401
    assert devnet.hosted.faults.active == ()
    assert [record["authorised"] for record in records(devnet, "received")] == [False]
    assert PASSWORD not in devnet.journal.path.read_text()


async def test_a_body_beyond_the_limit_is_413(client: Client) -> None:
    assert (await client.send(b" " * (1024 * 1024 + 1))).status == 413


async def test_same_answer_is_already_finished_when_it_has_landed(devnet: Devnet, client: Client) -> None:
    await client.answer(1)
    await landed(devnet)
    second = await client.answer(1)
    (sent,) = records(devnet, "sent")
    assert (second.status, second.rpc["error"]["code"]) == (400, 0)
    assert f"already finished: {sent['tx_hash']}" in second.rpc["error"]["message"]
    task, _ = await devnet.manager.task_at(1, client.block)
    assert task is not None
    by_operator_api = await client.send(operator_request(task, 1, response_digest(1, ANSWER)))
    assert by_operator_api.rpc["error"]["code"] == 2
    assert len(records(devnet, "sent")) == 1


async def test_many_requests_for_one_answer_make_one_transaction(devnet: Devnet, client: Client) -> None:
    seen = await asyncio.gather(*(client.answer(1) for _ in range(12)))
    assert await landed(devnet) == [(1, ANSWER)]
    assert {response.status for response in seen} <= {200, 400}
    assert len(records(devnet, "sent")) == 1
    assert answers_by_task(devnet.journal.path) == {1: {"0x2a"}}


async def test_journal_has_both_answers_when_a_task_gets_two(devnet: Devnet, client: Client) -> None:
    first, second = await client.answer(1), await client.answer(1, b"other")
    assert (first.result["task_index"], second.result["task_index"]) == (0, 1)

    async def both_mined() -> bool:
        return len(records(devnet, "mined")) == 2

    await until(both_mined)
    assert len(await devnet.manager.answers()) == 1
    assert answers_by_task(devnet.journal.path) == {1: {"0x2a", "0x" + b"other".hex()}}
    assert "already responded" in "".join(record["why"] or "" for record in records(devnet, "mined"))


async def test_a_request_is_in_the_journal_before_it_is_answered(devnet: Devnet, client: Client) -> None:
    devnet.hosted.faults.add(Fault(K.TIMEOUT, after=True))
    pending = asyncio.create_task(client.answer(4, timeout_s=DEADLINE_S))

    async def written() -> bool:
        return bool(records(devnet, "answered"))

    await until(written)
    assert not pending.done()
    pending.cancel()
    order = [record["what"] for record in read_journal(devnet.journal.path)]
    assert order[0] == "received"
    assert await landed(devnet) == [(4, ANSWER)]
    (received,) = records(devnet, "received")
    assert (received["task_index"], received["resp_message"]) == (4, "0x2a")


async def test_too_few_signers_never_send_and_a_later_request_tries_again(devnet: Devnet, client: Client) -> None:
    devnet.aggregator.absent = {0, 1}
    assert (await client.answer(4)).status == 200

    async def noted() -> bool:
        return bool(records(devnet, "note"))

    await until(noted)
    assert "quorum not reached" in records(devnet, "note")[0]["words"]
    devnet.aggregator.absent = {0}
    assert (await client.answer(4)).result["task_index"] == 0
    assert await landed(devnet) == [(4, ANSWER)]


async def test_a_stopped_server_refuses_connections_and_comes_back_on_its_port(devnet: Devnet, client: Client) -> None:
    await client.answer(0)
    port = devnet.hosted.port
    await devnet.hosted.stop()
    # The first may still find the old connection; the second has to open one.
    assert [(await client.answer(1)).status, (await client.answer(1)).error] == [0, "ClientConnectorError"]
    await devnet.hosted.start()
    assert devnet.hosted.port == port
    assert (await client.answer(1)).result["task_index"] == 1
    await devnet.hosted.restart()
    assert (await client.answer(2)).result["task_index"] == 0
    assert len(await landed(devnet, 3)) == 3


async def test_a_response_lost_in_a_reorg_can_be_sent_again(devnet: Devnet, client: Client) -> None:
    await client.answer(4)
    await landed(devnet)
    await devnet.chain.reorg(1)
    assert await devnet.manager.answers() == []
    assert (await client.answer(4)).status == 200
    assert await landed(devnet, 2) == [(4, ANSWER)]


async def test_with_a_strict_memory_a_lost_response_stays_finished(devnet: Devnet, client: Client) -> None:
    devnet.aggregator.strict_memory = True
    await client.answer(4)
    await landed(devnet)
    await devnet.chain.reorg(1)
    assert "already finished" in (await client.answer(4)).rpc["error"]["message"]


# Fault, what the client must see, whether the answer is accepted (and lands) all the same.
ANSWERS: list[tuple[Fault, Callable[[Seen], bool], bool]] = [
    (Fault(K.RESET), lambda s: s.error in ("ServerDisconnectedError", "ClientOSError"), False),
    (Fault(K.RESET, after=True), lambda s: s.error in ("ServerDisconnectedError", "ClientOSError"), True),
    (Fault(K.TIMEOUT), lambda s: s.error == "TimeoutError", False),
    (Fault(K.TIMEOUT, after=True), lambda s: s.error == "TimeoutError", True),
    (Fault(K.TIMEOUT, seconds=0.05), lambda s: s.error == "ServerDisconnectedError" or "ClientOS" in s.error, False),
    *(
        (Fault(K.STATUS, status=status), lambda s, n=status: s.status == n and b"<html>" in s.body, False)
        for status in (401, 403, 404, 408, 413, 500, 502, 503, 504)
    ),
    (
        Fault(K.STATUS, status=429, retry_after="7"),
        lambda s: s.status == 429 and s.headers["Retry-After"] == "7",
        False,
    ),
    (Fault(K.STATUS, status=502, after=True), lambda s: s.status == 502, True),
    (Fault(K.TRANSIENT_400), lambda s: s.status == 400 and "connection failed" in s.rpc["error"]["message"], False),
    (
        Fault(K.TRANSIENT_400, text="not enough signatures"),
        lambda s: s.rpc["error"]["message"] == "not enough signatures",
        False,
    ),
    (Fault(K.ALREADY_RESPONDED), lambda s: "already responded" in s.rpc["error"]["message"], False),
    (Fault(K.REDIRECT), lambda s: s.status == 307 and s.headers["Location"].startswith("http"), False),
    (Fault(K.MALFORMED_JSON), lambda s: s.status == 200 and not is_json(s.body), True),
    (Fault(K.MALFORMED_JSON, after=False), lambda s: s.status == 200 and not is_json(s.body), False),
    (Fault(K.RAW_BODY, text="<html>\ud800"), lambda s: s.body == b"<html>\xed\xa0\x80", True),
    (Fault(K.TRUNCATED), lambda s: s.error == "ClientPayloadError", True),
    (Fault(K.EMPTY_BODY), lambda s: s.status == 200 and s.body == b"", True),
    (Fault(K.HUGE_BODY, size_bytes=3_000_000), lambda s: len(s.body) > 3_000_000, True),
    (
        Fault(K.GZIP_BOMB, size_bytes=3_000_000),
        lambda s: len(s.body) < 10_000 and len(gzip.decompress(s.body)) > 3_000_000,
        True,
    ),
    (Fault(K.SLOW_DRIP, seconds=1.0), lambda s: s.error == "TimeoutError", True),
    (Fault(K.SLOW_DRIP, seconds=0.0), lambda s: s.result["tx_hash"] == ZERO_HASH, True),
    (Fault(K.WRONG_ID), lambda s: s.rpc["id"] not in (1, "1"), True),
    (Fault(K.STRING_ID), lambda s: s.rpc["id"] == "1", True),
    (Fault(K.ERROR_AND_RESULT), lambda s: "error" in s.rpc and "result" in s.rpc, True),
    (Fault(K.NULL_RESULT), lambda s: s.rpc["result"] is None, True),
    (Fault(K.TX_HASH_MISSING), lambda s: "tx_hash" not in s.result, True),
    (Fault(K.TX_HASH_SHORT), lambda s: s.result["tx_hash"] == "0xabcd", True),
    (Fault(K.TX_HASH_GARBAGE), lambda s: "not a hash" in s.result["tx_hash"], True),
    (Fault(K.WRONG_TX_HASH), lambda s: s.result["tx_hash"] == "0x" + "ab" * 32, True),
    (Fault(K.WRONG_SIG_HASH), lambda s: s.result["sig_hash"] == "0x" + "cd" * 32, True),
]


def is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


async def test_each_false_answer_looks_as_named_and_is_accepted_or_not_as_named(devnet: Devnet, client: Client) -> None:
    indices = await devnet.create_tasks([MESSAGE] * len(ANSWERS))
    block, accepted = await devnet.chain.head(), []
    for index, (fault, expected, lands) in zip(indices, ANSWERS, strict=True):
        devnet.hosted.faults.add(Fault(**(fault.to_json() | {"times": 1})))
        seen = await client.send(proxy_request(index, block), timeout_s=0.5)
        assert expected(seen), (fault, seen)
        assert devnet.hosted.faults.active == ()
        assert records(devnet, "answered")[-1]["accepted"] is lands, fault
        accepted += [index] if lands else []
    assert sorted(await landed(devnet, len(accepted))) == [(index, ANSWER) for index in accepted]
    # The fault is over: an honest answer follows.
    assert (await client.answer(0)).status == 200


async def test_every_kind_of_fault_is_tried_here() -> None:
    tried = {fault.kind for fault, _, _ in ANSWERS}
    assert set(FaultKind) - tried == {K.NEVER_LANDS, K.LANDS_LATE, K.REVERTS, K.RIVAL}


@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_takes_any_text_half_a_character_included(kind: FaultKind) -> None:
    honest = Answer(200, b'{"id":1,"result":{"tx_hash":"0x00","sig_hash":"0x00"},"jsonrpc":"2.0"}')
    assert isinstance(Fault(kind, text="\udc80").spoil(honest).body, bytes)


async def test_an_answer_can_be_accepted_and_never_land(devnet: Devnet, client: Client) -> None:
    devnet.hosted.faults.add(Fault(K.NEVER_LANDS, times=1))
    assert (await client.answer(4)).result["tx_hash"] == ZERO_HASH

    async def dropped() -> bool:
        return bool(records(devnet, "note"))

    await until(dropped)
    assert not records(devnet, "sent")
    assert (await client.answer(4)).status == 200
    assert await landed(devnet) == [(4, ANSWER)]


async def test_an_answer_can_land_some_blocks_late(devnet: Devnet, client: Client) -> None:
    accepted_at = await devnet.chain.head()
    devnet.hosted.faults.add(Fault(K.LANDS_LATE, times=1, blocks=3))
    assert (await client.answer(4)).status == 200
    await devnet.mine(2)
    assert not records(devnet, "sent")
    await devnet.mine(1)
    assert await landed(devnet) == [(4, ANSWER)]
    assert records(devnet, "mined")[0]["block_number"] == accepted_at + 4


async def test_a_transaction_can_fail_and_the_next_request_sends_another(devnet: Devnet, client: Client) -> None:
    devnet.hosted.faults.add(Fault(K.REVERTS, times=1))
    assert (await client.answer(4)).status == 200

    async def failed() -> bool:
        return bool(records(devnet, "mined"))

    await until(failed)
    assert records(devnet, "mined")[0]["succeeded"] is False
    assert "signature is invalid" in records(devnet, "mined")[0]["why"]
    assert (await client.answer(4)).status == 200
    assert await landed(devnet) == [(4, ANSWER)]


async def test_a_rival_can_answer_with_other_bytes(devnet: Devnet, client: Client) -> None:
    devnet.hosted.faults.add(Fault(K.RIVAL, times=1, text="0xbeef"))
    seen = await client.answer(4)
    assert seen.result["sig_hash"] == "0x" + response_digest(4, ANSWER).hex()
    assert await landed(devnet) == [(4, b"\xbe\xef")]
    assert answers_by_task(devnet.journal.path) == {4: {"0x2a"}}


async def test_a_fault_on_the_answer_and_one_at_the_chain_can_strike_together(devnet: Devnet, client: Client) -> None:
    devnet.hosted.faults.add(Fault(K.TIMEOUT, after=True, times=1), Fault(K.RIVAL, times=1))
    assert (await client.answer(4, timeout_s=0.3)).error == "TimeoutError"
    assert await landed(devnet) == [(4, b"rival")]


async def test_faults_are_set_listed_and_cleared_over_http(devnet: Devnet, client: Client) -> None:
    path = "/_emulator/faults"
    faults = [{"kind": "status", "status": 503, "times": 2}, {"kind": "reset"}]
    listed = (await client.send(faults, path=path)).body
    assert [(fault["kind"], fault["times"]) for fault in json.loads(listed)] == [("status", 2), ("reset", None)]
    seen = [await client.answer(n) for n in range(4)]
    assert [response.status for response in seen] == [503, 503, 0, 0]
    assert len(json.loads((await client.send(b"", path=path, verb="GET")).body)) == 1
    assert (await client.send(b"", path=path, verb="DELETE")).body == b"[]"
    assert (await client.answer(0)).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"7",
        b"{}",
        b'{"kind":"nonsense"}',
        b'{"kind":"reset","tims":1}',
        b'{"kind":"reset","times":"1"}',
        b'{"kind":"rival","text":"xyz"}',
    ],
)
async def test_an_impossible_fault_is_refused_with_words(devnet: Devnet, client: Client, body: bytes) -> None:
    seen = await client.send(body, path="/_emulator/faults")
    assert seen.status == 400
    assert len(json.loads(seen.body)["error"]) > 10
    assert devnet.hosted.faults.active == ()


def test_chance_is_seeded_and_about_as_often_as_asked() -> None:
    def struck(seed: int) -> list[bool]:
        ledger = FaultQueue(random.Random(seed))
        ledger.add(Fault(K.RESET, probability=0.25))
        return [ledger.draw(Where.BEFORE) is not None for _ in range(1000)]

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 200 < sum(struck(1)) < 300


async def test_requests_are_declined_while_the_chain_is_unreachable(client: Client) -> None:
    async with Devnet(DevnetOptions(mining="auto", password=PASSWORD)) as devnet:
        (index,) = await devnet.create_tasks([MESSAGE])
        there = Client(client.session, devnet, await devnet.chain.head())
        await devnet.anvil.stop()
        seen = await there.answer(index)
        assert (seen.status, seen.rpc["error"]["code"]) == (400, 0)
        assert "create sig task failed" in seen.rpc["error"]["message"]
        await devnet.anvil.start()
        devnet.hosted.faults.add(Fault(K.LANDS_LATE, blocks=1, times=1))
        assert (await there.answer(index)).status == 200
        await devnet.restart_chain()
        await devnet.mine()
        assert await landed(devnet) == [(index, ANSWER)]


async def test_a_long_answer_lands_whole(devnet: Devnet, client: Client) -> None:
    long = bytes(range(256)) * 80
    assert (await client.answer(4, long)).status == 200
    assert await landed(devnet) == [(4, long)]


async def test_a_hundred_answers_at_once_all_land(devnet: Devnet, client: Client) -> None:
    indices = await devnet.create_tasks([MESSAGE] * 100)
    block, began = await devnet.chain.head(), time.monotonic()
    requests = [proxy_request(i, block, bytes([i % 256])) for i in indices]
    seen = await asyncio.gather(*(client.send(request, timeout_s=20) for request in requests))
    assert [response.status for response in seen] == [200] * 100
    assert sorted(await landed(devnet, 100)) == [(i, bytes([i % 256])) for i in indices]
    assert time.monotonic() - began < DEADLINE_S
