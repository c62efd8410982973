"""`watcher explain` beside a real daemon whose proxy replies 401, and after it."""

import asyncio
import time
from pathlib import Path

from tests.system.daemon_rig import free_port, running_rig
from watcher.devnet.faults import Fault, FaultKind
from watcher.health.conditions import API, HOOK, KINDS, RPC


async def test_explain_names_the_password_while_the_proxy_replies_401(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig:
        listen = f"127.0.0.1:{free_port()}"
        daemon = await rig.start(WATCHER_HTTP__LISTEN=listen)
        rig.net.hosted.faults.add(Fault(FaultKind.STATUS, status=401))
        await rig.create(2)
        await rig.net.mine(2)
        await rig.until(lambda: "blocked" in rig.states().values(), "the proxy has refused an answer")
        refused = next(index for index, state in rig.states().items() if state == "blocked")  # the first to be computed
        for index in (0, 1):
            story = await rig.explain(index, listen)
            assert (story.unknown, story.state in ("blocked", "computed", "sending")) == ("", True), story
            if story.state != "sending":  # a probe may be under way
                assert "HTTP 401" in story.reason, story
                assert (story.condition, "correct the password" in story.advice) == (API, True)
                assert story.since is not None
                assert story.next_s is not None and 0 <= story.next_s <= 20
            assert story.blocks_left is not None and story.blocks_left > 0
            assert story.message.guess == f"uint256 {index + 1}"

        assert await daemon.stop() == 0
        screen = await rig.command("explain", f"{refused}", WATCHER_HTTP__LISTEN=listen)
        assert "waits for a daemon: none runs on this ledger" in " ".join(screen.out.split())
        assert "does not reply" in screen.out
        missing = await rig.command("explain", "999")
        assert (missing.code, "knows no task 999" in missing.err) == (64, True)

        rig.net.hosted.faults.clear()
        await rig.start(WATCHER_HTTP__LISTEN=listen)
        await rig.settle()
        done = await rig.command("explain", f"{refused}", "--json", WATCHER_HTTP__LISTEN=listen)
        assert done.code == 0, done
        (printed,) = done.json
        assert (printed["state"], printed["chain_answers"][0]["by"], printed["advice"]) == ("final", "us", "")
        assert [step["state"] for step in printed["timeline"]][-2:] == ["responded", "final"]
        assert any(attempt["http_status"] == 401 for attempt in printed["attempts"])


async def test_explain_names_what_each_task_waits_for(tmp_path: Path) -> None:
    """Confirmations, a failing hook, a dry run that reverts, the threshold of another API, a node that is away."""
    async with running_rig(tmp_path, hook="raising") as rig:
        listen = f"127.0.0.1:{free_port()}"
        rig.write_config(target="rig_hook:raising", changes={"[ledger]": "expected_threshold = 66\n[ledger]"})
        await rig.start(WATCHER_HTTP__LISTEN=listen)
        (first,) = await rig.create(1)
        await rig.until(lambda: rig.states() == {first: "seen"}, "the first task is seen")
        seen = await rig.explain(first, listen)
        assert seen.summary.startswith("waits for confirmations: block "), seen.summary
        assert "next look at block " in seen.summary

        await rig.net.mine(2)
        runs = "SELECT count(*) FROM attempts WHERE kind = 'hook' AND outcome = 'failed'"
        await rig.until(lambda: bool(rig.query(runs)) and rig.query(runs)[0][0] >= 2, "the hook has failed")
        failing = await rig.explain(first, listen)
        if failing.state == "ready":  # not given up yet
            assert ("not open yet" in failing.reason, failing.condition) == (True, HOOK), failing.summary
            assert f"`watcher hook try {first}`" in failing.advice

        (rig.hook_folder / "open").touch()
        refused = await rig.net.manager.create_task(b"\x07", 66, b"")
        foreign = await rig.net.manager.create_task(b"\x08", 60, b"\x00")
        await rig.net.mine(2)
        error = "SELECT error FROM tasks WHERE task_index = ?"
        await rig.until(lambda: "a dry run" in str(rig.query(error, refused)), "the dry run has refused it")
        await rig.until(lambda: "parked" in str(rig.query(error, foreign)), "the other threshold is parked")
        parked = await rig.explain(refused, listen)
        assert "empty quorum input" in parked.reason
        assert f"`watcher tasks retry {refused}`" in parked.advice
        parked = await rig.explain(foreign, listen)
        assert parked.reason.startswith("is parked: the task has threshold 60 %, not 66 %"), parked.summary
        assert "configure [operator.direct]" in parked.reason and "reload (SIGHUP)" in parked.advice

        (last,) = await rig.create(1)
        await rig.until(lambda: rig.states().get(last) == "seen", "the last task is seen")
        await rig.net.anvil.stop()

        async def waits_for_the_node() -> str:
            story = await rig.explain(last, listen)
            return story.summary if story.condition == RPC else ""

        deadline_s = time.monotonic() + 40
        while not (summary := await waits_for_the_node()):
            assert time.monotonic() < deadline_s, (await rig.explain(last, listen)).summary
            await asyncio.sleep(0.5)
        assert summary.startswith(f"waits to be admitted: {KINDS[RPC].title}: "), summary
        assert f"do: {KINDS[RPC].advice}" in summary
