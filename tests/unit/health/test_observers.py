"""What the hook and the API do is seen, passed on unchanged, and remembered without secrets."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.kit.clocks import HandClock
from watcher.clock import SystemClock
from watcher.errors import AttemptFailed, TryLater
from watcher.health.conditions import (
    API,
    HOOK,
)
from watcher.health.metrics import Metrics
from watcher.health.observers import Observer
from watcher.health.readings import (
    Limits,
    Observations,
)
from watcher.health.verdict import Status, evaluate
from watcher.ledger.writer import Batch
from watcher.operator.probe import Probe
from watcher.operator.request import Request, probe_request
from watcher.redact import Redactor
from watcher.task import Accepted, Later, Outcome, Refused, Response, Sent, Skip, Task, Unknown
from watcher.testing import make_task

SECRET = "correct-horse-battery"


def observer() -> Observer:
    return Observer(SystemClock(), Metrics(), Redactor([SECRET]))


def sent(outcome: Outcome, http_status: int | None = 200) -> Sent:
    return Sent(outcome, http_status, b"", 12)


def status(seen: Observer, service: str) -> Status:
    health = evaluate(Observations(1, api=seen.api, hook=seen.hook), Limits())
    verdict = health.service(service)
    assert verdict is not None
    return verdict.status


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([sent(Accepted())], Status.UP),
        ([sent(Refused("no such task", code=3), 400)] * 5, Status.UP),
        ([sent(Unknown("HTTP 502"), 502)], Status.UP),
        ([sent(Unknown("HTTP 502"), 502)] * 2, Status.DOWN),
        ([sent(Refused("not sent: refused"), None)] * 2, Status.DOWN),
        ([sent(Refused("slow down"), 429)] * 2, Status.DOWN),
        ([sent(Refused("HTTP 401", endpoint=True), 401)], Status.DOWN),
        ([sent(Refused("HTTP 401", endpoint=True), 401), sent(Unknown("reset"), None)], Status.UP),
        ([sent(Refused("HTTP 401", endpoint=True), 401), sent(Accepted())], Status.UP),
        ([sent(Unknown("reset"), None), sent(Accepted()), sent(Unknown("reset"), None)], Status.UP),
    ],
)
async def test_api_status_follows_its_last_reply(answers: list[Sent], expected: Status) -> None:
    seen, left = observer(), list(answers)

    class Api:
        async def send(self, request: Request) -> Sent:
            return left.pop(0)

    sender = seen.observe_sender(Api())
    assert [await sender.send(probe_request(1)) for _ in answers] == answers
    assert status(seen, API) is expected


async def test_good_probe_ends_the_failures_of_an_api() -> None:
    seen = observer()
    seen.sent(sent(Refused("HTTP 401", endpoint=True), 401))
    seen.probed(Probe(ok=False, message="HTTP 403", http_status=403, duration_ms=1))
    assert status(seen, API) is Status.DOWN
    seen.probed(Probe(ok=True, message="", http_status=404, duration_ms=1))
    assert status(seen, API) is Status.UP


Verdict = Response | Skip | Later


def hook(outcome: Verdict | Exception) -> Callable[[Task], Awaitable[Verdict]]:
    async def run(task: Task) -> Verdict:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return run


@pytest.mark.parametrize("verdict", [Response(b"x", "1", 5), Skip("why not"), Later(blocks=2)])
async def test_hook_result_is_passed_on_and_ends_its_failures(verdict: Verdict) -> None:
    seen = observer()
    for _ in range(2):
        with pytest.raises(AttemptFailed, match="boom"):
            await seen.observe_hook(hook(AttemptFailed("boom")))(make_task())
    assert status(seen, HOOK) is Status.DOWN
    assert await seen.observe_hook(hook(verdict))(make_task()) is verdict
    assert status(seen, HOOK) is Status.UP


async def test_silence_counts_from_the_last_ended_run_while_one_goes_on() -> None:
    clock, gates = HandClock(), [asyncio.Event(), asyncio.Event()]
    seen = Observer(clock, Metrics(), Redactor([SECRET]))

    async def answer(task: Task) -> Verdict:
        await gates[task.task_index].wait()
        return Skip("why not")

    run = seen.observe_hook(answer)
    clock.now_s += 100
    assert seen.hook_now(0).silent_s == 0
    runs = [asyncio.ensure_future(run(make_task(task_index=index))) for index in (0, 1)]
    await asyncio.sleep(0)
    clock.now_s += 7
    assert seen.hook_now(0).silent_s == 7
    gates[0].set()
    await runs[0]
    clock.now_s += 3
    assert (seen.hook_now(0).silent_s, seen.hook_now(0).longest_s) == (3, 7)
    gates[1].set()
    await runs[1]
    clock.now_s += 50
    assert (seen.hook_now(0).silent_s, seen.hook_now(0).longest_s) == (0, 7)


async def test_without_a_worker_the_hook_is_down_at_once() -> None:
    seen = observer()
    with pytest.raises(TryLater):
        await seen.observe_hook(hook(TryLater("no new worker")))(make_task())
    assert status(seen, HOOK) is Status.DOWN


async def test_no_secret_is_kept_from_any_source() -> None:
    seen = observer()
    with pytest.raises(AttemptFailed):
        await seen.observe_hook(hook(AttemptFailed(f"ValueError: {SECRET}")))(make_task())
    seen.committed(Batch(1, 0.1, f"no access for {SECRET}"))
    seen.sent(sent(Unknown(f"said {SECRET}"), None))
    assert seen.hook.reason and seen.api.reason and seen.store_condition
    assert SECRET not in seen.hook.reason + seen.api.reason + seen.store_condition
    seen.sent(sent(Refused(f"said {SECRET}", endpoint=True), 401))
    assert SECRET not in seen.api.reason
    seen.probed(Probe(ok=False, message=f"said {SECRET}", http_status=401, duration_ms=1))
    assert SECRET not in seen.api.reason
