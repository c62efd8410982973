"""`watcher explain` beside a real daemon whose proxy replies 401, and after it."""

import socket
from pathlib import Path
from typing import Any

from tests.system.daemon_rig import Rig, running_rig
from watcher.devnet.faults import Fault, FaultKind
from watcher.health.conditions import API, HOOK


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def _story(rig: Rig, index: int, listen: str) -> dict[str, Any]:
    done = await rig.command("explain", str(index), "--json", WATCHER_HTTP__LISTEN=listen)
    assert done.code == 0, done
    (story,) = done.json
    assert isinstance(story, dict)
    return story


async def test_explain_names_the_password_while_the_proxy_replies_401(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig:
        listen = f"127.0.0.1:{_free_port()}"
        daemon = await rig.start(WATCHER_HTTP__LISTEN=listen)
        rig.net.hosted.faults.add(Fault(FaultKind.STATUS, status=401))
        await rig.create(2)
        await rig.net.mine(2)
        await rig.until(lambda: "blocked" in rig.states().values(), "the proxy has refused an answer")
        for index in (0, 1):
            story = await _story(rig, index, listen)
            assert (story["unknown"], story["state"] in ("blocked", "computed", "sending")) == ("", True), story
            if story["state"] != "sending":  # a probe may be under way
                assert "HTTP 401" in story["reason"], story
                assert (story["condition"], "correct the password" in story["advice"]) == (API, True)
                assert story["since"] is not None
                assert 0 <= story["next_s"] <= 20
            assert story["blocks_left"] > 0
            assert story["message"]["guess"] == f"uint256 {index + 1}"

        assert await daemon.stop() == 0
        screen = await rig.command("explain", "0", WATCHER_HTTP__LISTEN=listen)
        assert "waits for a daemon: none runs on this ledger" in " ".join(screen.out.split())
        assert "does not reply" in screen.out
        missing = await rig.command("explain", "999")
        assert (missing.code, "knows no task 999" in missing.err) == (64, True)

        rig.net.hosted.faults.clear()
        await rig.start(WATCHER_HTTP__LISTEN=listen)
        await rig.settle()
        story = await _story(rig, 0, listen)
        assert (story["state"], story["chain_answers"][0]["by"], story["advice"]) == ("final", "us", "")
        assert [step["state"] for step in story["timeline"]][-2:] == ["responded", "final"]
        assert any(attempt["http_status"] == 401 for attempt in story["attempts"])


async def test_explain_names_what_each_task_waits_for(tmp_path: Path) -> None:
    """Confirmations, a failing hook, and a dry run that reverts."""
    async with running_rig(tmp_path, hook="raising") as rig:
        listen = f"127.0.0.1:{_free_port()}"
        await rig.start(WATCHER_HTTP__LISTEN=listen)
        (first,) = await rig.create(1)
        await rig.until(lambda: rig.states() == {first: "seen"}, "the first task is seen")
        seen = await _story(rig, first, listen)
        assert seen["summary"].startswith("waits for confirmations: block "), seen["summary"]
        assert "next look at block " in seen["summary"]

        await rig.net.mine(2)
        runs = "SELECT count(*) FROM attempts WHERE kind = 'hook' AND outcome = 'failed'"
        await rig.until(lambda: bool(rig.query(runs)) and rig.query(runs)[0][0] >= 2, "the hook has failed")
        failing = await _story(rig, first, listen)
        if failing["state"] == "ready":  # not given up yet
            assert ("not open yet" in failing["reason"], failing["condition"]) == (True, HOOK), failing["summary"]
            assert f"`watcher hook try {first}`" in failing["advice"]

        (rig.hook_folder / "open").touch()
        refused = await rig.net.manager.create_task(b"\x07", 66, b"")
        await rig.net.mine(2)
        error = "SELECT error FROM tasks WHERE task_index = ?"
        await rig.until(lambda: "a dry run" in str(rig.query(error, refused)), "the dry run has refused it")
        parked = await _story(rig, refused, listen)
        assert "empty quorum input" in parked["reason"]
        assert f"`watcher tasks retry {refused}`" in parked["advice"]
