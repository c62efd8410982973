"""The webhook: a body that verify reads, failures without the URL, no redirects."""

import json
from pathlib import Path

import pytest

from tests.kit.json_receiver import KEY, receiving_json
from watcher.daemon.webhook import Webhook
from watcher.errors import TryLater
from watcher.ledger.audit.roots import Root
from watcher.report.audit_roots import read_roots

MANAGER = b"\x11" * 20
ROOTS = [Root("2026-11-01", 1, 9, b"\x01" * 32, b"\x02" * 32), Root("2026-11-02", 10, 12, b"\x03" * 32, b"\x04" * 32)]


async def test_body_is_a_file_for_verify(tmp_path: Path) -> None:
    async with receiving_json() as receiver:
        await Webhook(receiver.url, 7, MANAGER).take(ROOTS)
    (body,) = receiver.bodies
    path = tmp_path / "roots.json"
    path.write_text(json.dumps(body))
    assert list(read_roots(path, 7, MANAGER).values()) == ROOTS


@pytest.mark.parametrize("status", [302, 307, 400, 401, 404, 429, 500, 503])
async def test_any_other_status_is_a_failure_and_no_redirect_is_followed(status: int) -> None:
    async with receiving_json() as receiver:
        receiver.status = status
        with pytest.raises(TryLater, match=f"^HTTP {status}$"):
            await Webhook(receiver.url, 7, MANAGER).take(ROOTS)
    assert receiver.tries == 1


async def test_failure_shows_no_part_of_the_url() -> None:
    async with receiving_json() as receiver:
        url = receiver.url
    for address in (url, url.replace("127.0.0.1", "user:hunter2hunter2@127.0.0.1"), "http://[::1"):
        webhook = Webhook(address, 7, MANAGER)
        with pytest.raises(TryLater) as caught:
            await webhook.take(ROOTS)
        for text in (str(caught.value), repr(webhook)):
            assert KEY not in text and "hunter2" not in text and "127.0.0.1" not in text
        assert caught.value.__cause__ is None
