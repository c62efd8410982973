"""The root of a past day beside a running daemon: every receiver that the settings name gets it, and the file once."""

import asyncio
import re
import sqlite3
from pathlib import Path

import aiohttp

from tests.kit.json_receiver import KEY, receiving_json
from tests.system.daemon_rig import Daemon, running_rig
from tests.system.receiver import listening
from watcher.ledger.audit.record import link

DAY_MS = 24 * 3600 * 1000


def set_back(ledger: Path) -> None:
    """Make the audit chain anew, as if each entry were a day older."""
    with sqlite3.connect(ledger) as connection:
        prev_hash = None
        for seq, at_ms, kind, note, leaves, first_hash in connection.execute(
            "SELECT seq, at_ms, kind, note, leaves, prev_hash FROM audit_entries ORDER BY seq"
        ).fetchall():
            entry = link(prev_hash or first_hash, seq, at_ms - DAY_MS, kind, note, leaves)
            connection.execute(
                "UPDATE audit_entries SET at_ms = ?, prev_hash = ?, hash = ? WHERE seq = ?",
                (entry.at_ms, entry.prev_hash, entry.hash, seq),
            )
            prev_hash = entry.hash
    connection.close()


async def published_root(daemon: Daemon) -> str:
    """Wait until the metrics say that the ledger has noted a root as published, and return it."""
    (url,) = re.findall(r"http://127\.0\.0\.1:\d+", daemon.log)[:1]
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            async with session.get(f"{url}/metrics") as reply:
                text = await reply.text()
            root = re.search(r'^avs_watcher_audit_root_info\{.*root="(0x[0-9a-f]{64})"', text, re.MULTILINE)
            if root and re.search(r"^avs_watcher_audit_root_published_timestamp_seconds \d", text, re.MULTILINE):
                return root[1]
            await asyncio.sleep(0.2)  # as a scrape does


async def test_root_of_a_past_day_reaches_every_receiver(tmp_path: Path) -> None:
    file = tmp_path / "roots.jsonl"
    async with running_rig(tmp_path, hook="square") as rig, receiving_json() as webhook, listening() as alerts:
        daemon = await rig.start()
        await rig.create(1)
        await rig.settle()
        assert await daemon.stop() == 0
        set_back(rig.ledger)
        environment = {
            "WATCHER_HTTP__LISTEN": "127.0.0.1:0",
            "WATCHER_AUDIT__ROOTS_FILE": str(file),
            "WATCHER_AUDIT__WEBHOOK": webhook.url,
            "WATCHER_AUDIT__ALERTS": "true",
            "WATCHER_ALERTS__URLS": alerts.url,
        }
        for _ in range(2):
            daemon = await rig.start(environment=environment)
            root = await published_root(daemon)
            await rig.until(lambda: any("audit root" in title for title in alerts.titles), "the alert service got it")
            assert await daemon.stop() == 0
            assert KEY not in daemon.log
        ((line,),) = webhook.bodies
        assert line["root"] == root
        messages = [message for message in alerts.got if "audit root" in message["title"]]
        assert len(messages) == 1 and root in messages[0]["message"]
        assert len(file.read_text().splitlines()) == 1
        done = await rig.command("audit", "verify", "--roots", str(file), "--json")
        assert (done.code, done.json["ok"], done.json["roots_compared"]) == (0, True, 2), done
