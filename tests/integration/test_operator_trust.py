"""Secrets stay inside, certificates are checked, and a probe tells what is wrong without any effect."""

import logging
import socket
import ssl
from base64 import b64encode
from pathlib import Path

import pytest

from tests.integration.operator_rig import (
    PASSWORD,
    TX,
    Api,
    Behaviour,
    accepts,
    answers,
    certainly_not_sent,
    client_of,
    closes,
    failure,
    hangs,
    make_request,
    send_once,
)
from watcher.operator.client import REPLY_KEPT_BYTES
from watcher.operator.endpoint import Endpoint
from watcher.task import Accepted, Refused


async def test_no_secret_leaves_through_outcome_evidence_repr_or_log(caplog: pytest.LogCaptureFixture) -> None:
    token = b64encode(f"admin:{PASSWORD}".encode()).decode()
    echo = failure("x" * 270 + f" key-in-path-1234 {PASSWORD} {token}")
    caplog.set_level(logging.DEBUG)
    async with Api(answers(400, echo + b" " * REPLY_KEPT_BYTES)) as api:
        async with client_of(api.url + "/key-in-path-1234?q=key-in-query-5678") as client:
            texts = [repr(client), str(client), repr(await client.send(make_request())), repr(await client.probe())]
        async with client_of(api.url.replace("http", "https") + "/key-in-path-1234", connect_timeout_s=0.2) as client:
            texts += [repr(await client.send(make_request())), repr(await client.probe())]
    endpoint = Endpoint(api.url + "/key-in-path-1234", "admin", PASSWORD)
    # A long address, hidden down to a few characters, must not pull half a secret into what is kept.
    far = failure("https://example.org/" + "y" * (16_384 - 200) + " " + PASSWORD * 9)
    async with Api(answers(400, far)) as other, client_of(other.url) as client:
        texts.append(repr(await client.send(make_request())))
    everything = "\n".join([*texts, repr(endpoint), caplog.text])
    for secret in (PASSWORD, PASSWORD[:9], token, "key-in-path", "key-in-query"):
        assert secret not in everything
    assert f"Client({api.url})" in texts


@pytest.mark.parametrize(
    ("behaviour", "ok", "message"),
    [
        (answers(404, failure("got unsupported method name: watcher_probe", 1)), True, "authorised"),
        (answers(200, failure("method not found", -32601)), False, "not the operator API"),
        (answers(400, failure("invalid", 1)), True, "authorised"),
        (answers(401, b"<html>"), False, "password"),
        (answers(403, failure("no")), False, "forbids"),
        (answers(404, b"<html>nginx</html>"), False, "url"),
        (answers(302, b"", "Location: /elsewhere"), False, "redirects"),
        (answers(502, b"<html>"), False, "502"),
        (answers(200, b"<html>welcome</html>"), False, "JSON-RPC"),
        (answers(200, b'{"id":"1","result":true}'), False, "not the operator API"),
        (closes, False, "closed"),
        (hangs, False, "no whole reply"),
    ],
)
async def test_probe_tells_reachable_and_authorised_from_the_rest(behaviour: Behaviour, ok: bool, message: str) -> None:
    async with Api(behaviour) as api, client_of(api.url, timeout_s=0.5) as client:
        probe = await client.probe()
        assert probe.ok == ok
        assert message in probe.message
        assert b"operator_" not in api.seen[0].body


async def test_probe_of_nothing_says_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with client_of(f"http://127.0.0.1:{free.getsockname()[1]}") as client:
            probe = await client.probe()
    assert not probe.ok
    assert "refused" in probe.message


# Made for these tests and of no use elsewhere; valid from 2020 to 2120.
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjhKBuqKw68Pdxc05
HfS+6WB54/duypMirz+48eSv4H2hRANCAASzG6XxIDcLCFfPbUp2VjDb9o+dPWTQ
cKvsm960qhaEYgL7lh9+trLeCbgajMD+zyLXYY2UEsDRvYzOncTJOIID
-----END PRIVATE KEY-----
"""
FOR_LOOPBACK = """\
-----BEGIN CERTIFICATE-----
MIIBZjCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLMbpfEgNwsIV89t
SnZWMNv2j509ZNBwq+yb3rSqFoRiAvuWH362st4JuBqMwP7PItdhjZQSwNG9jM6d
xMk4ggOjTjBMMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8E
BTADAQH/MB0GA1UdDgQWBBSauD8g+q1kz7uDM296DXn7s7CW4TAKBggqhkjOPQQD
AgNHADBEAiBniDG5foNswZymSYfyV/CPKgCuupp1r4qrtenJCAWXeAIgM97icefL
/dIfJutN17OXH9pCNmpW6B5zU41dZmp4By0=
-----END CERTIFICATE-----
"""
FOR_ANOTHER_HOST = """\
-----BEGIN CERTIFICATE-----
MIIBejCCAR+gAwIBAgIBAjAKBggqhkjOPQQDAjAcMRowGAYDVQQDDBFlbHNld2hl
cmUuaW52YWxpZDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowHDEa
MBgGA1UEAwwRZWxzZXdoZXJlLmludmFsaWQwWTATBgcqhkjOPQIBBggqhkjOPQMB
BwNCAASzG6XxIDcLCFfPbUp2VjDb9o+dPWTQcKvsm960qhaEYgL7lh9+trLeCbga
jMD+zyLXYY2UEsDRvYzOncTJOIIDo1AwTjAcBgNVHREEFTATghFlbHNld2hlcmUu
aW52YWxpZDAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBSauD8g+q1kz7uDM296
DXn7s7CW4TAKBggqhkjOPQQDAgNJADBGAiEAsoWovwD3ic39qYwLjT7+TaO69JUC
E8AJxE1I2SwgD10CIQC6EBw4mI1RcNpYZLUIN95oSSnbkPVaY6cgSAUZwx3gbw==
-----END CERTIFICATE-----
"""

# For this machine like the first, of its own authority, and valid for one day of 2024.
EXPIRED = """-----BEGIN CERTIFICATE-----
MIIBuTCCAV+gAwIBAgIURONl6fa7qg/XGaWle1rS1jLQxN4wCgYIKoZIzj0EAwIw
JDEiMCAGA1UEAwwZYW4gQVBJIHdob3NlIHRpbWUgaXMgb3ZlcjAeFw0yNDAyMjgy
MDM4MTBaFw0yNDAyMjkyMDM4MTBaMCQxIjAgBgNVBAMMGWFuIEFQSSB3aG9zZSB0
aW1lIGlzIG92ZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASzG6XxIDcLCFfP
bUp2VjDb9o+dPWTQcKvsm960qhaEYgL7lh9+trLeCbgajMD+zyLXYY2UEsDRvYzO
ncTJOIIDo28wbTAdBgNVHQ4EFgQUmrg/IPqtZM+7gzNveg15+7OwluEwHwYDVR0j
BBgwFoAUmrg/IPqtZM+7gzNveg15+7OwluEwDwYDVR0TAQH/BAUwAwEB/zAaBgNV
HREEEzARhwR/AAABgglsb2NhbGhvc3QwCgYIKoZIzj0EAwIDSAAwRQIhAOvywads
z7IAwpK37tAKDCq+QnbluYf0AFFmr44qBKE0AiAs1pyyW35JWxusmavqOHxGbkkO
mHoWmsDpyVXNdZDlCw==
-----END CERTIFICATE-----
"""


def make_tls(folder: Path, certificate: str) -> ssl.SSLContext:
    (folder / "key.pem").write_text(KEY)
    (folder / "ca.pem").write_text(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


async def test_tls_with_the_given_ca_is_accepted_and_leaves_no_key_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    async with Api(accepts, tls=make_tls(tmp_path, FOR_LOOPBACK)) as api:
        assert (await send_once(api.url, ca_file=tmp_path / "ca.pem")).outcome == Accepted(TX)
    assert not (tmp_path / "keys.log").exists()


@pytest.mark.parametrize(("certificate", "trusted"), [(FOR_LOOPBACK, False), (FOR_ANOTHER_HOST, True), (EXPIRED, True)])
async def test_certificate_that_does_not_hold_is_certainly_not_sent(
    certificate: str, trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Api(accepts, tls=make_tls(tmp_path, certificate)) as api:
        # The environment must not be able to add an authority.
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        sent = await send_once(api.url, ca_file=tmp_path / "ca.pem" if trusted else None)
        assert certainly_not_sent(sent), sent
        assert isinstance(sent.outcome, Refused)
        assert "certificate" in sent.outcome.reason
        assert ("expired" in sent.outcome.reason) == (certificate is EXPIRED)
        assert not api.seen
