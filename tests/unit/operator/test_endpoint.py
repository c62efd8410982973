"""An endpoint that cannot be right, or would show the password, is refused before any byte goes out."""

import ssl
from pathlib import Path

import pytest

from watcher.errors import FixConfiguration
from watcher.operator.endpoint import Endpoint

PASSWORD = "correct-horse-battery"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/", "plain http"),
        ("http://127.0.0.1.example.org/", "plain http"),
        ("http://192.168.1.5:8902", "plain http"),
        ("https://admin:hunter2@example.org/", "credentials"),
        ("ftp://example.org/", "must look like"),
        ("example.org:8902", "must look like"),
        ("https://", "must look like"),
        ("https://exa mple.org/", "must look like"),
        ("https://example.org:99999/", "must look like"),
        ("https://[::1/", "must look like"),
        ("", "must look like"),
    ],
)
def test_address_that_cannot_be_right_is_refused_before_any_byte(url: str, message: str) -> None:
    with pytest.raises(FixConfiguration, match=message) as caught:
        Endpoint(url, "admin", PASSWORD)
    assert "hunter2" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "http://[::1]:1", "http://127.9.9.9/", "https://example.org/a?b=c"]
)
def test_loopback_and_tls_addresses_are_fine(url: str) -> None:
    assert Endpoint(url).origin == url.removesuffix("/").removesuffix("/a?b=c")


def test_plain_http_elsewhere_needs_the_explicit_switch() -> None:
    assert Endpoint("http://192.168.1.5:8902", allow_plain_http=True).origin == "http://192.168.1.5:8902"


def test_only_an_address_with_tls_loads_the_public_authorities() -> None:
    assert Endpoint("https://example.org").tls().get_ca_certs()
    plain = Endpoint("http://127.0.0.1:8902").tls()
    assert not plain.get_ca_certs()
    assert plain.verify_mode is ssl.CERT_REQUIRED


def test_all_problems_of_an_endpoint_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(FixConfiguration) as caught:
        Endpoint("", username="a:b", timeout_s=float("nan"), concurrency=0)
    assert len(caught.value.problems) == 4
    with pytest.raises(FixConfiguration, match="username"):
        Endpoint("https://example.org", password=PASSWORD)
    with pytest.raises(FixConfiguration, match="ca_file"):
        Endpoint("https://example.org", ca_file=tmp_path / "missing.pem").tls()
