"""What becomes of one POST when the network or the server does its worst."""

import asyncio
import gzip
import socket
from base64 import b64encode
from pathlib import Path

import pytest

from tests.integration.operator_rig import (
    PASSWORD,
    TX,
    Api,
    Behaviour,
    Seen,
    accepts,
    answers,
    certainly_not_sent,
    client_of,
    closes,
    failure,
    hangs,
    http,
    make_request,
    repeats,
    resets,
    resets_within_body,
    says,
    send_once,
    success,
)
from watcher.operator.client import REPLY_KEPT_BYTES
from watcher.task import Accepted, Refused, Unknown


async def test_request_arrives_whole_with_authentication_and_no_more_than_needed() -> None:
    async with Api(accepts) as api:
        sent = await send_once(api.url + "/my-avs")
    assert sent.outcome == Accepted(TX)
    assert (sent.http_status, sent.answer) == (200, success(api.seen[0]))
    head = api.seen[0].head.lower().split("\r\n")
    assert head[0] == "post /my-avs http/1.1"
    assert "authorization: basic " + b64encode(f"admin:{PASSWORD}".encode()).decode().lower() in head
    assert {"content-type: application/json", "accept-encoding: identity"} <= set(head)
    assert any(line.startswith("user-agent: avs-task-watcher/") for line in head)
    assert not any(line.startswith(("cookie:", "transfer-encoding:")) for line in head)
    assert api.seen[0].body == make_request().body


BOMB = gzip.compress(bytes(50_000_000))
OPEN_ENDED = [
    pytest.param(closes, None, id="closed after reading"),
    pytest.param(resets, None, id="reset after reading"),
    pytest.param(resets_within_body, 200, id="reset within the body"),
    pytest.param(hangs, None, id="no answer"),
    pytest.param(answers(200, b'{"id":"7"', length=100, close=True), 200, id="truncated body"),
    pytest.param(repeats(http(200, b"", length=10_000), b" ", 0.02), 200, id="drip-fed body"),
    pytest.param(repeats(b"HTTP/1.1 ", b"2", 0.02), None, id="drip-fed status line"),
    pytest.param(repeats(http(200, b"", length=50_000_000), bytes(65536)), 200, id="50 MB"),
    pytest.param(repeats(b"HTTP/1.1 200 OK\r\n\r\n", bytes(65536)), 200, id="endless body without a length"),
    pytest.param(repeats(b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"x" * 4000 + b"\r\n"), None, id="endless headers"),
    pytest.param(repeats(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 4000), None, id="one endless header"),
    pytest.param(repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), None, id="endless 100 Continue"),
    pytest.param(answers(200, BOMB, "Content-Encoding: gzip"), 200, id="gzip bomb"),
    pytest.param(says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n"), None, id="bad chunk"),
    pytest.param(says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"), 200, id="chunk cut short"),
    pytest.param(says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), None, id="another protocol"),
    pytest.param(says(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), None, id="negative length"),
    pytest.param(says(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"), None, id="two lengths"),
    pytest.param(answers(200, b"<html>welcome</html>", "Content-Type: text/html"), 200, id="HTML"),
    pytest.param(answers(200, b""), 200, id="empty"),
    pytest.param(answers(502, b"<html>Bad Gateway</html>", "Retry-After: 3"), 502, id="502 with HTML"),
    pytest.param(answers(500, b""), 500, id="500"),
    pytest.param(answers(200, failure("x", request_id="999")), 200, id="answer to another request"),
]


@pytest.mark.parametrize(("behaviour", "status"), OPEN_ENDED)
async def test_whatever_goes_wrong_after_the_request_went_out_is_unknown(
    behaviour: Behaviour, status: int | None
) -> None:
    async with Api(behaviour) as api:
        sent = await send_once(api.url, timeout_s=0.6)
        assert isinstance(sent.outcome, Unknown), sent
        if status is not None:
            assert sent.http_status == status
        assert len(sent.answer) <= REPLY_KEPT_BYTES
        assert sent.duration_ms < 3000
        assert api.written_bytes < 30_000_000
        assert len(api.seen) == 1
        assert api.connections == 1


async def test_reset_before_reading_is_unknown_because_nothing_proves_otherwise() -> None:
    async with Api(resets, reads=False) as api:
        assert isinstance((await send_once(api.url)).outcome, Unknown)


@pytest.mark.parametrize("behaviour", [answers(401, b"<html>", length=900, close=True), answers(401, bytes(3_000_000))])
async def test_status_that_decides_alone_needs_no_whole_body(behaviour: Behaviour) -> None:
    async with Api(behaviour) as api:
        outcome = (await send_once(api.url)).outcome
    assert isinstance(outcome, Refused)
    assert outcome.endpoint


async def test_a_reply_beyond_the_limit_is_unknown_whatever_it_begins_with() -> None:
    async with Api(answers(400, failure("already finished") + b" " * 3_000_000)) as api:
        assert isinstance((await send_once(api.url)).outcome, Unknown)


async def test_truncated_400_is_unknown_as_the_rest_may_say_already_finished() -> None:
    async with Api(answers(400, failure("the task")[:20], length=200, close=True)) as api:
        assert isinstance((await send_once(api.url)).outcome, Unknown)


async def test_refused_connection_is_certainly_not_sent() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        sent = await send_once(f"http://127.0.0.1:{free.getsockname()[1]}")
    assert certainly_not_sent(sent), sent
    assert isinstance(sent.outcome, Refused)
    assert "refused" in sent.outcome.reason


async def test_unknown_host_is_certainly_not_sent() -> None:
    assert certainly_not_sent(await send_once("https://nowhere.invalid/", connect_timeout_s=1.0))


async def test_connection_that_never_comes_about_is_certainly_not_sent() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(8)]
        try:
            for waiter in waiting:
                waiter.setblocking(False)
                waiter.connect_ex(full.getsockname())
            sent = await send_once(f"http://127.0.0.1:{full.getsockname()[1]}", connect_timeout_s=0.3)
        finally:
            for waiter in waiting:
                waiter.close()
    assert certainly_not_sent(sent), sent


async def test_silence_in_the_tls_handshake_is_certainly_not_sent() -> None:
    async with Api(hangs, reads=False) as api:
        sent = await send_once(api.url.replace("http:", "https:"), connect_timeout_s=0.3)
    assert certainly_not_sent(sent), sent


async def test_waiting_for_a_free_connection_does_not_count_as_sent() -> None:
    async with Api(hangs) as api, client_of(api.url, concurrency=1, timeout_s=0.4) as client:
        results = await asyncio.gather(*(client.send(make_request(n)) for n in range(1, 7)))
        unsent = [sent for sent in results if certainly_not_sent(sent)]
        assert len(unsent) >= 3
        assert len(api.seen) == len(results) - len(unsent)
        assert all(isinstance(sent.outcome, Unknown) for sent in results if sent not in unsent)


async def test_second_request_on_a_connection_is_not_sent_again_when_it_closes() -> None:
    async def closes_the_second(api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
        await (accepts if len(api.seen) == 1 else closes)(api, seen, writer)

    async with Api(closes_the_second) as api, client_of(api.url) as client:
        assert isinstance((await client.send(make_request(1))).outcome, Accepted)
        assert isinstance((await client.send(make_request(2))).outcome, Unknown)
        assert len(api.seen) == 2
        assert api.connections == 1


async def test_connection_closed_between_requests_never_gives_a_false_certainty() -> None:
    async def accepts_and_closes(api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
        await accepts(api, seen, writer)
        writer.close()

    async with Api(accepts_and_closes) as api, client_of(api.url) as client:
        results = [await client.send(make_request(n)) for n in range(1, 21)]
        accepted = sum(isinstance(sent.outcome, Accepted) for sent in results)
        assert not any(isinstance(sent.outcome, Refused) for sent in results)
        assert len(api.seen) == accepted
        assert accepted >= 10


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_blocks_the_endpoint_and_the_target_hears_nothing(status: int) -> None:
    async with Api(accepts) as target, Api(answers(status, b"", f"Location: {target.url}/")) as api:
        outcome = (await send_once(api.url)).outcome
        assert isinstance(outcome, Refused)
        assert outcome.endpoint
        assert target.connections == 0
        assert len(api.seen) == 1


async def test_cookies_are_not_given_back() -> None:
    async def sets_cookie(api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
        await api.write(writer, http(200, success(seen), "Set-Cookie: track=1; Path=/", "Set-Cookie: b=2"))

    async with Api(sets_cookie) as api, client_of(api.url) as client:
        for n in (1, 2, 3):
            assert isinstance((await client.send(make_request(n))).outcome, Accepted)
    assert len(api.seen) == 3
    assert not any("cookie" in seen.head.lower() for seen in api.seen)


async def test_environment_names_neither_proxy_nor_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login thief password stolen\n")
    async with Api(accepts) as proxy, Api(accepts) as api:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        monkeypatch.setenv("NETRC", str(netrc))
        assert isinstance((await send_once(api.url, username="", password="")).outcome, Accepted)
        assert proxy.connections == 0
        assert "authorization" not in api.seen[0].head.lower()


async def test_wrong_password_blocks_the_endpoint_and_is_not_tried_again() -> None:
    async with Api(answers(401, b"<html>401</html>", 'WWW-Authenticate: Basic realm="x"')) as api:
        outcome = (await send_once(api.url)).outcome
        assert isinstance(outcome, Refused)
        assert outcome.endpoint
        assert "password" in outcome.reason
        assert len(api.seen) == 1


async def test_retry_after_reaches_the_outcome() -> None:
    async with Api(answers(429, b"", "Retry-After: 12")) as api:
        outcome = (await send_once(api.url)).outcome
    assert isinstance(outcome, Refused)
    assert (outcome.retry_after_s, outcome.endpoint) == (12, False)


@pytest.mark.parametrize("concurrency", [4, 64])
async def test_sixty_four_at_once_all_succeed_within_the_limit(concurrency: int) -> None:
    async with Api(accepts) as api, client_of(api.url, concurrency=concurrency, timeout_s=20) as client:
        results = await asyncio.gather(*(client.send(make_request(n)) for n in range(1, 65)))
        assert [sent.outcome for sent in results] == [Accepted(TX)] * 64
        assert sorted(int(seen.request_id) for seen in api.seen) == list(range(1, 65))
        assert api.most_in_flight <= concurrency
        assert api.connections <= concurrency


async def test_closing_the_client_leaves_what_is_on_its_way_unknown() -> None:
    async with Api(hangs) as api, client_of(api.url) as client:
        task = asyncio.create_task(client.send(make_request()))
        await asyncio.wait_for(api.arrived.wait(), 5)
        await client.aclose()
        assert isinstance((await asyncio.wait_for(task, 3)).outcome, Unknown)


async def test_cancellation_passes_through_and_frees_the_slot() -> None:
    async with Api(hangs) as api, client_of(api.url, concurrency=1) as client:
        task = asyncio.create_task(client.send(make_request(1)))
        await asyncio.wait_for(api.arrived.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        api.hold.set()
        assert isinstance((await client.send(make_request(2))).outcome, Accepted)
