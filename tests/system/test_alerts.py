"""Alerts reach a real receiver, and a receiver that does not work costs the daemon nothing."""

import json
import re
import time
from pathlib import Path

import pytest

from tests.system.daemon_rig import running_rig
from tests.system.receiver import KEY, Receiver, listening
from watcher.clock import SystemClock
from watcher.devnet.faults import Fault, FaultKind
from watcher.health.alert_text import Message
from watcher.health.delivery import Delivery
from watcher.settings.model import Alerts as AlertSettings

MESSAGE = Message("a title", "a body", "info")


def delivery(*receivers: Receiver, timeout_s: float = 5.0) -> Delivery:
    section = AlertSettings.model_validate({"urls": [receiver.url for receiver in receivers], "timeout_s": timeout_s})
    return Delivery.of(section)


async def test_a_message_reaches_every_service() -> None:
    async with listening() as first, listening() as second:
        carrier = delivery(first, second)
        assert await carrier.deliver(MESSAGE, SystemClock()) == []
        for receiver in (first, second):
            assert [(got["title"], got["message"], got["type"]) for got in receiver.got] == [
                ("a title", "a body", "info")
            ]
        carrier.close()


async def test_a_service_that_hangs_holds_up_neither_the_caller_nor_the_others() -> None:
    async with listening() as hanging, listening() as good:
        hanging.released.clear()
        carrier = delivery(hanging, good, timeout_s=1.0)
        began_s = time.monotonic()
        for _ in range(50):
            carrier.post(MESSAGE)
        assert time.monotonic() - began_s < 0.5
        # Its queue is bounded: what is posted at once beyond it is lost, and that is said; the rest arrives.
        await good.until(lambda: len(good.got) >= 16, "the other service gets its messages")
        assert hanging.got == []
        began_s = time.monotonic()
        assert await carrier.deliver(MESSAGE, SystemClock()) == ["JSON (URL 1)"]
        assert time.monotonic() - began_s < 3
        carrier.close()


async def test_a_service_that_fails_is_tried_again() -> None:
    async with listening(broken=True) as receiver:
        carrier = delivery(receiver)
        carrier.post(MESSAGE)
        await receiver.until(lambda: receiver.tries == 1, "the first try")
        receiver.broken = False
        await receiver.until(lambda: receiver.titles == ["a title"], "the second try")
        carrier.close()


async def test_alert_test_says_who_took_it_and_shows_no_key(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, listening() as good, listening(broken=True) as bad:
        urls = f"{good.url} {bad.url}"
        done = await rig.command("alert", "test", "--json", WATCHER_ALERTS__URLS=urls)
        assert done.code == 69
        assert json.loads(done.out) == [
            {"service": "JSON (URL 1)", "arrived": True},
            {"service": "JSON (URL 2)", "arrived": False},
        ]
        assert "test" in good.titles[0]
        nobody = await rig.command("alert", "test")
        assert (nobody.code, nobody.out) == (78, "")
        unknown = await rig.command("alert", "test", WATCHER_ALERTS__URLS=f"nonsense://{KEY}")
        assert unknown.code == 78
        assert "alerts.urls: URL 1: not a service that Apprise supports" in unknown.err
        for text in (done.out, done.err, nobody.err, unknown.err):
            assert KEY not in text


@pytest.mark.parametrize("mode", ["down", "refusing"])
async def test_an_api_that_fails_is_one_alert_and_one_recovery(tmp_path: Path, mode: str) -> None:
    async with running_rig(tmp_path) as rig, listening() as receiver:
        daemon = await rig.start(WATCHER_ALERTS__URLS=receiver.url, WATCHER_ALERTS__INTERVAL_S="1")
        status = 401 if mode == "refusing" else 503
        rig.net.hosted.faults.add(Fault(FaultKind.STATUS, status=status))
        async with rig.mining(0.3):
            await rig.create(3)
            await receiver.until(lambda: len(receiver.got) == 1, "the alert")
            assert "the operator API does not take answers" in receiver.titles[0]
            rig.net.hosted.faults.clear()
            await receiver.until(lambda: len(receiver.got) == 2, "the recovery")
            assert "over: the operator API" in receiver.titles[1]
            await rig.settle()
        await rig.verify()
        assert len(receiver.got) == 2
        assert await daemon.stop() == 0
        assert KEY not in daemon.log


async def test_missed_tasks_are_told_once_they_are_final(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="patient", window_blocks=16) as rig, listening() as receiver:
        daemon = await rig.start(WATCHER_ALERTS__URLS=receiver.url, WATCHER_ALERTS__INTERVAL_S="1")
        await rig.create(1)
        await rig.net.mine(14)  # two blocks are left
        await receiver.until(lambda: len(receiver.got) == 1, "the danger")
        assert "a task is about to miss its deadline" in receiver.titles[0]
        await rig.settle()
        await receiver.until(lambda: any("a task was missed" in title for title in receiver.titles), "the miss")
        missed = next(message for message in receiver.got if "a task was missed" in message["title"])
        assert "task 0" in missed["message"]
        assert await daemon.stop() == 0
        (line,) = [line for line in daemon.log.splitlines() if "missed" in line]
        assert " ERROR " in line and "task=0" in line


async def test_unanswered_task_is_reported_besides_the_recovery_of_the_hook(tmp_path: Path) -> None:
    """Nobody takes it up again by itself: whoever reads "fine again" alone would let its window pass."""
    async with running_rig(tmp_path, hook="raising") as rig, listening() as receiver:
        daemon = await rig.start(
            WATCHER_ALERTS__URLS=receiver.url, WATCHER_ALERTS__INTERVAL_S="1", WATCHER_HOOK__MAX_ATTEMPTS="2"
        )
        await rig.create(2)
        await rig.net.mine(2)

        def reported() -> list[int]:
            """The indices of all messages: a busy machine may tell of each task in one of its own."""
            reasons = [
                line.reason.partition(" (")[0] for line in receiver.lines if line.subject == "a task was given up"
            ]
            return sorted(
                int(number) for reason in reasons for number in re.findall(r"\d+", reason.partition("task")[2])
            )

        await receiver.until(lambda: reported() == [0, 1], "that both were given up")
        assert {line.kind for line in receiver.lines if line.subject == "a task was given up"} == {"happened"}
        assert await daemon.stop() == 0
        given_up = [line for line in daemon.log.splitlines() if "task.failed" in line]
        assert len(given_up) == 2 and all(" ERROR " in line for line in given_up)


async def test_a_dead_receiver_costs_the_daemon_nothing(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, listening() as receiver:
        receiver.released.clear()
        daemon = await rig.start(
            WATCHER_ALERTS__URLS=receiver.url, WATCHER_ALERTS__INTERVAL_S="0.5", WATCHER_ALERTS__TIMEOUT_S="1"
        )
        rig.net.hosted.faults.add(Fault(FaultKind.STATUS, status=401))
        await rig.create(3)
        await rig.net.mine()
        await receiver.until(lambda: receiver.tries > 0, "an alert is on its way")
        await rig.until(lambda: "alert.delivery_failed" in daemon.log, "the failed delivery is logged")
        rig.net.hosted.faults.clear()
        await rig.settle()
        await rig.verify()
        began_s = time.monotonic()
        assert await daemon.stop() == 0
        assert time.monotonic() - began_s < 10
        assert daemon.log.count("alert.delivery_failed") == 1


async def test_a_changed_final_block_is_the_last_thing_that_is_told(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, listening() as receiver:
        daemon = await rig.start(WATCHER_ALERTS__URLS=receiver.url)
        await rig.create(1)
        await rig.settle()
        final = rig.query("SELECT final_block FROM sources")[0][0]
        await rig.net.chain.reorg(await rig.net.chain.head() - final + 1, lambda transaction: transaction.offset)
        await rig.net.mine(2)
        assert await daemon.wait() == 1
        assert any("a final block has changed" in title for title in receiver.titles)
        assert KEY not in daemon.log
